// Streams, events and the adversary that decides when queued work runs.
//
// Nothing runs by itself: there is no worker thread and no clock. A stream is a queue of operations, and an
// operation runs only when the host waits for something that needs it, or when the policy lets it run earlier.
// Every order that a policy chooses is one that a real GPU may choose too; the point is to choose bad ones.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

extern "C" __attribute__((weak)) int PyGILState_Check();

namespace standin {

// When work runs, beyond what the awaited thing needs:
//   eager    at once, in the order of the calls: a device without queues. Hides every race; the control.
//   lazy     never. A read that lacks a fence sees what was there before.
//   hostile  all other streams first, as far as their own fences let them. A write that lacks a fence comes
//            before the read it should have waited for.
//   random   some stream, now and then.
enum class Policy { eager, lazy, hostile, random };

// One recording of an event. An event that is recorded again gets a new one, so a wait that was queued before
// keeps meaning the recording of that time, as in CUDA.
struct Recording {
    bool done = false;
};
using RecordingPtr = std::shared_ptr<Recording>;

inline constexpr int num_devices = 2;        // the second: code that quietly takes the first for its own
inline thread_local int current_device = 0;  // as in CUDA, 0 in every new thread

struct Operation {
    const char* kind;            // "D2H", "record", ...: what the log calls it
    size_t bytes = 0;
    const char* memory = "-";    // of a copy: what its host side is, "pinned" or "pageable"
    std::function<void()> work;  // empty for waits and recordings
    RecordingPtr awaits;         // not to run before this is done
    RecordingPtr fulfils;        // done once this ran
};

struct Stream {
    int id;
    std::deque<Operation> queue;

    bool blocked() const { return queue.front().awaits && !queue.front().awaits->done; }
    bool runnable() const { return !queue.empty() && !blocked(); }
};

class Scheduler {
public:
    std::recursive_mutex mutex;  // guards this object and the memory maps; every API call holds it

    Scheduler() {
        for (int device = 0; device < num_devices; ++device) create_stream();
    }

    // Finish all work, then begin a new experiment.
    void reset(Policy policy, unsigned seed) {
        finish_all();
        policy_ = policy;
        random_.seed(seed);
        log_.clear();
    }

    Stream& default_stream() { return *streams_[current_device]; }

    Stream& create_stream() {
        streams_.push_back(std::make_unique<Stream>(Stream{static_cast<int>(streams_.size()), {}}));
        return *streams_.back();
    }

    void submit(Stream& stream, Operation operation) {
        note("queued", stream.id, operation.kind, operation.bytes, operation.memory);
        stream.queue.push_back(std::move(operation));
        if (policy_ == Policy::eager) finish(stream);
        if (policy_ == Policy::random && draw(3) == 0) run_somewhere(nullptr);
    }

    // The three things a host can wait for.
    void finish(const RecordingPtr& recording) {
        if (!recording->done) demand(owner(recording), [&] { return recording->done; });
    }
    void finish(Stream& stream) {
        demand(stream, [&] { return stream.queue.empty(); });
    }
    void finish_all() {  // youngest first: a side stream gets no head start from work of the default stream
        for (size_t i = streams_.size(); i-- > 0;) finish(*streams_[i]);
    }

    // --- the log: one line an entry, "phase stream kind bytes memory thread" ---------------------------------

    void note(const char* phase, int stream, const char* kind, size_t bytes = 0, const char* memory = "-") {
        char line[160];
        snprintf(line, sizeof line, "%s %d %s %zu %s %ld", phase, stream, kind, bytes, memory, syscall(SYS_gettid));
        log_.emplace_back(line);
    }
    // What the calling thread does itself, and whether it keeps Python's other threads from running meanwhile.
    void note_host(const char* kind, size_t bytes = 0) {
        note("host", -1, kind, bytes, PyGILState_Check && PyGILState_Check() ? "gil" : "-");
    }

    size_t log_size() const { return log_.size(); }

    std::string log_from(size_t begin) const {
        std::string text;
        for (size_t i = begin; i < log_.size(); ++i) text += log_[i] + "\n";
        return text;
    }

private:
    // Run `stream` on until `done()`, giving the adversary its chance before every operation.
    template <class Done>
    void demand(Stream& stream, Done done) {
        while (!done()) {
            let_others_run(stream);
            if (stream.blocked())
                finish(RecordingPtr(stream.queue.front().awaits));  // in another stream, and queued earlier
            else
                run_head(stream);
        }
    }

    void let_others_run(const Stream& except) {
        if (policy_ == Policy::hostile)
            while (run_somewhere(&except)) {
            }
        if (policy_ == Policy::random)
            for (unsigned n = draw(4); n > 0; --n) run_somewhere(&except);
    }

    // Run one operation of some other stream whose fences allow it; false if there is none.
    bool run_somewhere(const Stream* except) {
        std::vector<Stream*> candidates;
        for (auto& stream : streams_)
            if (stream.get() != except && stream->runnable()) candidates.push_back(stream.get());
        if (candidates.empty()) return false;
        run_head(*candidates[policy_ == Policy::random ? draw(candidates.size()) : 0]);
        return true;
    }

    void run_head(Stream& stream) {
        Operation operation = std::move(stream.queue.front());
        stream.queue.pop_front();
        if (operation.work) operation.work();
        if (operation.fulfils) operation.fulfils->done = true;
        note("ran", stream.id, operation.kind, operation.bytes, operation.memory);
    }

    Stream& owner(const RecordingPtr& recording) {
        for (auto& stream : streams_)
            for (auto& operation : stream->queue)
                if (operation.fulfils == recording) return *stream;
        fprintf(stderr, "cuda stand-in: an awaited recording is in no stream; this is a bug of the stand-in\n");
        abort();
    }

    unsigned draw(size_t below) { return static_cast<unsigned>(random_() % below); }

    Policy policy_ = Policy::eager;
    std::mt19937 random_;
    std::vector<std::string> log_;
    std::vector<std::unique_ptr<Stream>> streams_;  // first the default stream of each device
};

inline Scheduler& scheduler() {
    static auto* instance = new Scheduler;  // never destroyed: torch still calls while the process ends
    return *instance;
}

using Lock = std::lock_guard<std::recursive_mutex>;

}  // namespace standin
