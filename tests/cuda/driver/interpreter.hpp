// Launches: the blocks of a grid, interpreted thread by thread.
#pragma once
#include <cstdint>
#include <vector>

#include "program.hpp"

namespace fake {

void note_memory(uint64_t address, uint64_t size);  // what kernels may touch
void forget_memory(uint64_t address);

struct Grid {
  uint32_t x, y, threads;
};

// `order`: 0 for blocks, warps and threads in order; otherwise the seed of a random order, in which
// several blocks run side by side and begin in any order, as on a GPU.
void run(const Program &program, Grid grid, const std::vector<uint64_t> &parameters, uint64_t order);

}  // namespace fake
