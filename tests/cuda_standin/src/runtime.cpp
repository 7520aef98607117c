// The part of the CUDA runtime that snapshots use, on top of the scheduler: memory, copies, streams, events.
//
// torch links libcudart dynamically, so functions of the same names in a preloaded library win. What is not
// here falls through to the real library (registration of kernels, graphs), which is harmless: kernels are
// never launched. A launch fails loudly and stays in cudaGetLastError, or the operation would silently do
// nothing and a test would compare old values with old values.
#include <cuda_runtime_api.h>

#include "memory.hpp"
#include "scheduler.hpp"

#define API extern "C" __attribute__((visibility("default")))

using namespace standin;

namespace {

struct Event {
    RecordingPtr recording;  // none before the first record: such an event counts as done
    int queries = 0;
};

Stream& stream_of(cudaStream_t handle) {
    if (handle == nullptr || handle == cudaStreamLegacy || handle == cudaStreamPerThread)
        return scheduler().default_stream();
    return *reinterpret_cast<Stream*>(handle);
}
Event& event_of(cudaEvent_t handle) { return *reinterpret_cast<Event*>(handle); }

thread_local cudaError_t last_error = cudaSuccess;
cudaError_t refuse_kernel() { return last_error = cudaErrorNotSupported; }

}  // namespace

// --- the device -------------------------------------------------------------------------------------------

API cudaError_t cudaGetDeviceCount(int* count) { return *count = num_devices, cudaSuccess; }
API cudaError_t cudaGetDevice(int* device) { return *device = current_device, cudaSuccess; }
API cudaError_t cudaSetDevice(int device) {  // the real one makes a context on the device, some 500 MB of it
    Lock lock(scheduler().mutex);
    if (device < 0 || device >= num_devices) return cudaErrorInvalidDevice;
    scheduler().note_host("set_device", device);
    current_device = device;
    return cudaSuccess;
}
API cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
API cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
API cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 0, cudaSuccess; }
API cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    *least = 0, *greatest = -1;
    return cudaSuccess;
}
API cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "FakeCUDA (no kernels)");  // never to be taken for hardware in a record
    p->totalGlobalMem = Memory::total_bytes;
    p->major = 8;
    p->multiProcessorCount = 1;
    p->warpSize = 32;
    p->maxThreadsPerBlock = p->maxThreadsPerMultiProcessor = 1024;
    p->regsPerMultiprocessor = 65536;
    p->sharedMemPerBlock = 49152;
    p->unifiedAddressing = 1;
    return cudaSuccess;
}
API cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrComputeCapabilityMajor ? 8 : attribute == cudaDevAttrWarpSize ? 32 : 0;
    return cudaSuccess;
}
API cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int) {
    snprintf(id, length, "0000:00:00.0");
    return cudaSuccess;
}
API cudaError_t cudaDeviceSynchronize() {
    Lock lock(scheduler().mutex);
    scheduler().note_host("device_synchronize");
    scheduler().finish_all();
    return cudaSuccess;
}

// --- errors and kernels -----------------------------------------------------------------------------------

API cudaError_t cudaGetLastError() {
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}
API cudaError_t cudaPeekAtLastError() { return last_error; }
API const char* cudaGetErrorName(cudaError_t) { return "cuda stand-in"; }
API const char* cudaGetErrorString(cudaError_t error) {
    if (error == cudaErrorNotSupported) return "cuda stand-in: compute kernels are not emulated";
    return "cuda stand-in: error";
}
API cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) { return refuse_kernel(); }
API cudaError_t __cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) { return refuse_kernel(); }
API cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void*, void**) { return refuse_kernel(); }
API cudaError_t cudaGetDriverEntryPointByVersion(
    const char*, void** function, unsigned, unsigned long long, cudaDriverEntryPointQueryResult* result) {
    *function = nullptr;
    if (result) *result = cudaDriverEntryPointSymbolNotFound;
    return cudaErrorSymbolNotFound;
}

// --- memory -----------------------------------------------------------------------------------------------

API cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
    *free_bytes = Memory::total_bytes - memory().used_bytes;
    *total_bytes = Memory::total_bytes;
    return cudaSuccess;
}
API cudaError_t cudaMalloc(void** pointer, size_t bytes) {
    Lock lock(scheduler().mutex);
    if (memory().used_bytes + bytes > Memory::total_bytes) return cudaErrorMemoryAllocation;
    *pointer = Memory::fresh(bytes);
    memory().device.add(*pointer, bytes);
    memory().used_bytes += bytes;
    scheduler().note_host("device_alloc", bytes);
    return cudaSuccess;
}
API cudaError_t cudaFree(void* pointer) {  // waits for the device, as the real one does
    if (!pointer) return cudaSuccess;
    Lock lock(scheduler().mutex);
    scheduler().note_host("device_free");
    scheduler().finish_all();
    size_t bytes = memory().device.remove(pointer);
    memory().used_bytes -= bytes;
    Memory::give_back(pointer, bytes);
    return cudaSuccess;
}
API cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
    Lock lock(scheduler().mutex);
    *pointer = Memory::fresh(bytes);
    memory().pinned.add(*pointer, bytes);
    scheduler().note_host("pinned_alloc", bytes);
    return cudaSuccess;
}
API cudaError_t cudaFreeHost(void* pointer) {
    Lock lock(scheduler().mutex);
    scheduler().note_host("pinned_free");
    scheduler().finish_all();
    Memory::give_back(pointer, memory().pinned.remove(pointer));
    return cudaSuccess;
}
API cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned) {
    Lock lock(scheduler().mutex);
    memory().pinned.add(pointer, bytes);
    return cudaSuccess;
}
API cudaError_t cudaHostUnregister(void* pointer) {
    Lock lock(scheduler().mutex);
    scheduler().finish_all();
    memory().pinned.remove(pointer);
    return cudaSuccess;
}
API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
    Lock lock(scheduler().mutex);
    memset(attributes, 0, sizeof *attributes);
    attributes->hostPointer = attributes->devicePointer = const_cast<void*>(pointer);
    attributes->type = memory().device.contains(pointer)   ? cudaMemoryTypeDevice
                       : memory().pinned.contains(pointer) ? cudaMemoryTypeHost
                                                           : cudaMemoryTypeUnregistered;
    return cudaSuccess;
}

// --- copies -----------------------------------------------------------------------------------------------

API cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t handle) {
    Lock lock(scheduler().mutex);
    const bool from_device = memory().device.contains(from), to_device = memory().device.contains(to);
    const bool from_pageable = !from_device && !memory().pinned.contains(from);
    const bool to_pageable = !to_device && !memory().pinned.contains(to);
    const bool pageable = from_pageable || to_pageable;
    const char* kind = from_device ? (to_device ? "D2D" : "D2H") : (to_device ? "H2D" : "H2H");
    const char* host_side = pageable ? "pageable" : from_device && to_device ? "-" : "pinned";
    Stream& stream = stream_of(handle);
    scheduler().submit(stream, {kind, bytes, host_side, [=] { memmove(to, from, bytes); }, nullptr, nullptr});
    if (pageable) {  // the call returns only when the copy is over, however asynchronous it was asked to be
        scheduler().note_host("pageable_copy", bytes);
        scheduler().finish(stream);
    }
    return cudaSuccess;
}
API cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    Lock lock(scheduler().mutex);
    cudaMemcpyAsync(to, from, bytes, kind, nullptr);
    return cudaStreamSynchronize(nullptr);
}
API cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t handle) {
    Lock lock(scheduler().mutex);
    scheduler().submit(stream_of(handle), {"memset", bytes, "-", [=] { memset(to, value, bytes); }, nullptr, nullptr});
    return cudaSuccess;
}
API cudaError_t cudaMemset(void* to, int value, size_t bytes) {
    Lock lock(scheduler().mutex);
    cudaMemsetAsync(to, value, bytes, nullptr);
    return cudaStreamSynchronize(nullptr);
}

// --- streams ----------------------------------------------------------------------------------------------

API cudaError_t cudaStreamCreateWithPriority(cudaStream_t* handle, unsigned, int) {
    Lock lock(scheduler().mutex);
    *handle = reinterpret_cast<cudaStream_t>(&scheduler().create_stream());
    return cudaSuccess;
}
API cudaError_t cudaStreamCreateWithFlags(cudaStream_t* handle, unsigned flags) {
    return cudaStreamCreateWithPriority(handle, flags, 0);
}
API cudaError_t cudaStreamCreate(cudaStream_t* handle) { return cudaStreamCreateWithPriority(handle, 0, 0); }
API cudaError_t cudaStreamDestroy(cudaStream_t handle) {  // torch keeps its streams for ever; empty it, keep it
    Lock lock(scheduler().mutex);
    scheduler().finish(stream_of(handle));
    return cudaSuccess;
}
API cudaError_t cudaStreamGetPriority(cudaStream_t, int* priority) { return *priority = 0, cudaSuccess; }
API cudaError_t cudaStreamQuery(cudaStream_t handle) {
    Lock lock(scheduler().mutex);
    return stream_of(handle).queue.empty() ? cudaSuccess : cudaErrorNotReady;
}
API cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
    Lock lock(scheduler().mutex);
    scheduler().note_host("stream_synchronize");
    scheduler().finish(stream_of(handle));
    return cudaSuccess;
}
API cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
    Lock lock(scheduler().mutex);
    if (event_of(event).recording)
        scheduler().submit(stream_of(handle), {"wait", 0, "-", {}, event_of(event).recording, nullptr});
    return cudaSuccess;
}
API cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
    return *status = cudaStreamCaptureStatusNone, cudaSuccess;
}
API cudaError_t cudaStreamGetCaptureInfo(
    cudaStream_t, cudaStreamCaptureStatus* status, unsigned long long* id, cudaGraph_t* graph,
    const cudaGraphNode_t** nodes, const cudaGraphEdgeData** edges, size_t* count) {
    *status = cudaStreamCaptureStatusNone;
    if (id) *id = 0;
    if (graph) *graph = nullptr;
    if (nodes) *nodes = nullptr;
    if (edges) *edges = nullptr;
    if (count) *count = 0;
    return cudaSuccess;
}
API cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }

// --- events -----------------------------------------------------------------------------------------------

API cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = reinterpret_cast<cudaEvent_t>(new Event);
    return cudaSuccess;
}
API cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
API cudaError_t cudaEventDestroy(cudaEvent_t event) {
    Lock lock(scheduler().mutex);
    delete &event_of(event);
    return cudaSuccess;
}
API cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t handle, unsigned) {
    Lock lock(scheduler().mutex);
    event_of(event) = {std::make_shared<Recording>(), 0};
    scheduler().submit(stream_of(handle), {"record", 0, "-", {}, nullptr, event_of(event).recording});
    return cudaSuccess;
}
API cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
    return cudaEventRecordWithFlags(event, handle, 0);
}
API cudaError_t cudaEventQuery(cudaEvent_t handle) {  // "not ready" three times, then progress: polling ends
    Lock lock(scheduler().mutex);
    Event& event = event_of(handle);
    if (!event.recording || event.recording->done) return cudaSuccess;
    if (++event.queries <= 3) return cudaErrorNotReady;
    scheduler().finish(event.recording);
    return cudaSuccess;
}
API cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    Lock lock(scheduler().mutex);
    const RecordingPtr recording = event_of(event).recording;
    if (!recording || recording->done) return cudaSuccess;
    scheduler().note_host("event_synchronize");
    scheduler().finish(recording);
    return cudaSuccess;
}
API cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
    return *milliseconds = 1.0f, cudaSuccess;  // there is no time here
}
