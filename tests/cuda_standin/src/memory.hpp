// Device and pinned memory: both are plain host pages that the stand-in remembers by address.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <map>

namespace standin {

// A set of address ranges.
class Ranges {
public:
    void add(const void* begin, size_t bytes) { sizes_[address(begin)] = bytes; }

    bool contains(const void* pointer) const {
        auto after = sizes_.upper_bound(address(pointer));
        if (after == sizes_.begin()) return false;
        auto range = std::prev(after);
        return address(pointer) < range->first + range->second;
    }

    // Forget the range that begins here; its size, 0 if there is none.
    size_t remove(const void* begin) {
        auto range = sizes_.find(address(begin));
        if (range == sizes_.end()) return 0;
        size_t bytes = range->second;
        sizes_.erase(range);
        return bytes;
    }

private:
    static uintptr_t address(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }
    std::map<uintptr_t, size_t> sizes_;
};

class Memory {
public:
    static constexpr size_t total_bytes = size_t(4) << 30;
    static constexpr int poison = 0xEE;  // fresh memory, so that a read of bytes never written is visible

    Ranges device, pinned;
    size_t used_bytes = 0;

    static void* fresh(size_t bytes) {
        void* pointer = mmap(nullptr, pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return pointer == MAP_FAILED ? nullptr : memset(pointer, poison, bytes);
    }
    static void give_back(void* pointer, size_t bytes) { munmap(pointer, pages(bytes)); }

private:
    static size_t pages(size_t bytes) { return (bytes + 4095) & ~size_t(4095); }
};

inline Memory& memory() {
    static auto* instance = new Memory;
    return *instance;
}

}  // namespace standin
