// The driver functions that torch resolves from libcuda.so.1, by that SONAME this library: a current context
// that always exists, and "not supported" for everything about kernels.
#define API extern "C" __attribute__((visibility("default")))
#define UNSUPPORTED(name) \
    API int name() { return 801; }  // CUDA_ERROR_NOT_SUPPORTED

static int the_context;

API int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, 0; }
API int cuDeviceGetAttribute(int* value, int, int) { return *value = 0, 0; }
API int cuCtxGetCurrent(void** context) { return *context = &the_context, 0; }
API int cuCtxSetCurrent(void*) { return 0; }
API int cuDevicePrimaryCtxRetain(void** context, int) { return *context = &the_context, 0; }
API int cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) {
    if (flags) *flags = 0;
    return *active = 1, 0;
}
API int cuGetErrorString(int, const char** text) { return *text = "cuda stand-in: not emulated", 0; }

UNSUPPORTED(cuFuncGetAttribute)
UNSUPPORTED(cuFuncSetAttribute)
UNSUPPORTED(cuFuncSetCacheConfig)
UNSUPPORTED(cuLaunchCooperativeKernel)
UNSUPPORTED(cuLaunchKernel)
UNSUPPORTED(cuLinkAddData_v2)
UNSUPPORTED(cuLinkComplete)
UNSUPPORTED(cuLinkCreate_v2)
UNSUPPORTED(cuModuleGetFunction)
UNSUPPORTED(cuModuleLoad)
UNSUPPORTED(cuModuleLoadData)
UNSUPPORTED(cuModuleLoadDataEx)
UNSUPPORTED(cuModuleUnload)
UNSUPPORTED(cuOccupancyMaxActiveBlocksPerMultiprocessor)
UNSUPPORTED(cuPointerGetAttribute)
UNSUPPORTED(cuTensorMapEncodeTiled)
