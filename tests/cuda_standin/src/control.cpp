// What the tests call through ctypes: choose a policy, read the log, and queue the one "kernel" there is.
#include <cuda_runtime_api.h>

#include "scheduler.hpp"

#define API extern "C" __attribute__((visibility("default")))

using namespace standin;

// Finish all work and begin anew under a policy. 0, or 1 for an unknown name.
API int standin_reset(const char* name, unsigned seed) {
    static const std::pair<const char*, Policy> policies[] = {
        {"eager", Policy::eager}, {"lazy", Policy::lazy}, {"hostile", Policy::hostile}, {"random", Policy::random}};
    Lock lock(scheduler().mutex);
    for (auto& [known, policy] : policies)
        if (std::string(name) == known) return scheduler().reset(policy, seed), 0;
    return 1;
}

API size_t standin_log_size() {
    Lock lock(scheduler().mutex);
    return scheduler().log_size();
}

// The entries from `begin` on, a line each. The text lives until this thread's next call.
API const char* standin_log(size_t begin) {
    static thread_local std::string text;
    Lock lock(scheduler().mutex);
    text = scheduler().log_from(begin);
    return text.c_str();
}

// Queue to = a * to + b * from over floats; a = 0 does not read `to`, b = 0 not `from`. With it a test gives
// torch the few operators that an optimizer step needs, asynchronous as real kernels are.
API void standin_axpby(void* handle, float* to, float a, const float* from, float b, size_t count) {
    Lock lock(scheduler().mutex);
    Stream& stream = handle ? *static_cast<Stream*>(handle) : scheduler().default_stream();
    auto work = [=] {
        for (size_t i = 0; i < count; ++i) to[i] = (a != 0 ? a * to[i] : 0) + (b != 0 ? b * from[i] : 0);
    };
    scheduler().submit(stream, {"axpby", count * sizeof(float), "-", work, nullptr, nullptr});
}
