#include "interpreter.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <random>

namespace fake {
namespace {

constexpr uint32_t WARP = 32;
constexpr uint64_t POISON = 0xDEADBEEFCAFEF00Dull;
constexpr size_t SIDE_BY_SIDE = 6;             // blocks, in a random order
constexpr uint64_t MOST_STEPS = 4'000'000'000;  // of a launch; beyond that it waits for ever
constexpr int TURN = 48;                       // steps of a warp before another has its turn

std::map<uint64_t, uint64_t> memory;  // address -> bytes

uint64_t extended(uint64_t value, Type type) {
  switch (type) {
    case Type::S8: return static_cast<int64_t>(static_cast<int8_t>(value));
    case Type::U8: case Type::B8: return static_cast<uint8_t>(value);
    case Type::S16: return static_cast<int64_t>(static_cast<int16_t>(value));
    case Type::U16: case Type::B16: return static_cast<uint16_t>(value);
    case Type::S32: return static_cast<int64_t>(static_cast<int32_t>(value));
    case Type::U32: case Type::B32: case Type::F32: return static_cast<uint32_t>(value);
    case Type::Pred: return value & 1;
    default: return value;
  }
}

template <class To, class From>
To bits(From value) {
  To out{};
  std::memcpy(&out, &value, std::min(sizeof(To), sizeof(From)));
  return out;
}

float single(uint64_t value) { return bits<float>(static_cast<uint32_t>(value)); }
uint64_t single_bits(float value) { return bits<uint32_t>(value); }
double twofold(uint64_t value) { return bits<double>(value); }
uint64_t twofold_bits(double value) { return bits<uint64_t>(value); }

template <class Value>
bool compares(Compare how, Value a, Value b) {
  switch (how) {
    case Compare::Eq: return a == b;
    case Compare::Ne: return a != b;
    case Compare::Lt: return a < b;
    case Compare::Le: return a <= b;
    case Compare::Gt: return a > b;
    default: return a >= b;
  }
}

bool compared(const Instruction &in, uint64_t a, uint64_t b) {
  if (in.type == Type::F32) return compares(in.compare, single(a), single(b));
  if (in.type == Type::F64) return compares(in.compare, twofold(a), twofold(b));
  a = extended(a, in.type), b = extended(b, in.type);
  if (is_signed(in.type)) return compares(in.compare, static_cast<int64_t>(a), static_cast<int64_t>(b));
  return compares(in.compare, a, b);
}

template <class Integer>
uint64_t saturated(double value, uint64_t not_a_number) {
  if (std::isnan(value)) return not_a_number;
  constexpr double low = static_cast<double>(std::numeric_limits<Integer>::min());
  constexpr double high = static_cast<double>(std::numeric_limits<Integer>::max());
  if (value >= high) return static_cast<uint64_t>(std::numeric_limits<Integer>::max());
  return static_cast<uint64_t>(value <= low ? std::numeric_limits<Integer>::min() : static_cast<Integer>(value));
}

uint64_t converted(const Instruction &in, uint64_t value) {
  bool from_float = in.from == Type::F32 || in.from == Type::F64;
  bool to_float = in.type == Type::F32 || in.type == Type::F64;
  if (from_float) {
    double x = in.from == Type::F32 ? single(value) : twofold(value);
    if (in.rounding == Rounding::Down) x = std::floor(x);
    if (in.rounding == Rounding::Zero) x = std::trunc(x);
    if (in.type == Type::F32) return single_bits(static_cast<float>(x));
    if (in.type == Type::F64) return twofold_bits(x);
    if (in.type == Type::S32) return saturated<int32_t>(x, 0);
    if (in.type == Type::U32) return saturated<uint32_t>(x, 0);
    if (in.type == Type::S64) return saturated<int64_t>(x, 1ull << 63);
    fail("unknown form " + in.text);
  }
  uint64_t wide = extended(value, in.from);
  if (!to_float) return extended(wide, in.type);
  bool negative = is_signed(in.from);
  if (in.type == Type::F64)
    return twofold_bits(negative ? static_cast<double>(static_cast<int64_t>(wide)) : static_cast<double>(wide));
  return single_bits(negative ? static_cast<float>(static_cast<int64_t>(wide)) : static_cast<float>(wide));
}

uint64_t divided(const Instruction &in, uint64_t a, uint64_t b) {
  a = extended(a, in.type), b = extended(b, in.type);
  bool quotient = in.op == Op::Div;
  if (b == 0) return ~0ull;  // as GPUs have it
  if (!is_signed(in.type)) return quotient ? a / b : a % b;
  if (static_cast<int64_t>(b) == -1) return quotient ? 0 - a : 0;
  return quotient ? static_cast<int64_t>(a) / static_cast<int64_t>(b) : static_cast<int64_t>(a) % static_cast<int64_t>(b);
}

uint64_t extreme(const Instruction &in, uint64_t a, uint64_t b) {
  bool larger = in.op == Op::Max;
  if (in.type == Type::F32)
    return single_bits(larger ? std::fmax(single(a), single(b)) : std::fmin(single(a), single(b)));
  a = extended(a, in.type), b = extended(b, in.type);
  bool less = is_signed(in.type) ? static_cast<int64_t>(a) < static_cast<int64_t>(b) : a < b;
  return less == larger ? b : a;
}

uint64_t shifted(const Instruction &in, uint64_t value, uint64_t by) {
  uint32_t size = 8 * width(in.type), count = static_cast<uint32_t>(by);
  if (in.op == Op::Shl) return count >= size ? 0 : value << count;
  value = extended(value, in.type);
  if (is_signed(in.type)) return static_cast<uint64_t>(static_cast<int64_t>(value) >> std::min(count, size - 1));
  return count >= size ? 0 : value >> count;
}

uint64_t inserted(const Instruction &in, uint64_t field, uint64_t into, uint64_t at, uint64_t length) {
  uint32_t place = at & 255, count = length & 255;
  uint64_t mask = count >= 64 ? ~0ull : (1ull << count) - 1;
  return place < 8u * width(in.type) ? (into & ~(mask << place)) | ((field & mask) << place) : into;
}

uint64_t arithmetic(const Instruction &in, uint64_t a, uint64_t b, uint64_t c) {
  bool one = in.type == Type::F32, two = in.type == Type::F64;
  switch (in.op) {
    case Op::Add: return one ? single_bits(single(a) + single(b)) : two ? twofold_bits(twofold(a) + twofold(b)) : a + b;
    case Op::Sub: return one ? single_bits(single(a) - single(b)) : two ? twofold_bits(twofold(a) - twofold(b)) : a - b;
    case Op::Mul: return one ? single_bits(single(a) * single(b)) : two ? twofold_bits(twofold(a) * twofold(b)) : a * b;
    case Op::MulWide:
      a = extended(a, in.type), b = extended(b, in.type);
      return a * b;  // of sign-extended factors the low 64 bits are those of the signed product
    case Op::MulHigh:
      if (width(in.type) == 4) return (extended(a, in.type) * extended(b, in.type)) >> 32;
      fail("unknown form " + in.text);
    case Op::Mad: return a * b + c;
    case Op::Div: case Op::Rem: return divided(in, a, b);
    case Op::And: return a & b;
    case Op::Or: return a | b;
    case Op::Xor: return a ^ b;
    case Op::Not: return in.type == Type::Pred ? !(a & 1) : ~a;
    case Op::Neg: return one ? single_bits(-single(a)) : two ? twofold_bits(-twofold(a)) : 0 - a;
    case Op::Abs: return static_cast<uint64_t>(std::llabs(static_cast<int64_t>(extended(a, in.type))));
    case Op::Min: case Op::Max: return extreme(in, a, b);
    case Op::Shl: case Op::Shr: return shifted(in, a, b);
    case Op::Setp: return compared(in, a, b);
    case Op::Selp: return c & 1 ? a : b;
    case Op::Cvt: return converted(in, a);
    case Op::Popc: return __builtin_popcountll(in.type == Type::B64 ? a : a & 0xFFFFFFFF);
    case Op::Clz:
      if (in.type == Type::B64) return a ? __builtin_clzll(a) : 64;
      return a & 0xFFFFFFFF ? __builtin_clz(static_cast<uint32_t>(a)) : 32;
    case Op::Bfind: return a & 0xFFFFFFFF ? __builtin_clz(static_cast<uint32_t>(a)) : 0xFFFFFFFF;
    case Op::Brev: {
      uint32_t out = 0;
      for (int i = 0; i < 32; i++) out |= static_cast<uint32_t>(a >> i & 1) << (31 - i);
      return out;
    }
    default: return a;  // Mov
  }
}

struct Thread {
  enum State : uint8_t { Running, AtCollective, AtBarrier, Ended } state = Running;
  int at = 0;
};

class Block {
 public:
  Block(const Program &program, Grid grid, uint32_t x, uint32_t y, const std::vector<uint64_t> &parameters)
      : program_(program), grid_(grid), x_(x), y_(y), parameters_(parameters),
        registers_(program.masks.size() * grid.threads, POISON), threads_(grid.threads),
        shared_(program.shared, 0xA5) {}

  uint32_t warps() const { return (grid_.threads + WARP - 1) / WARP; }
  bool ended() const { return ended_ == grid_.threads; }

  // Advance a warp by one instruction of some of its threads; false if it can't go on.
  bool step(uint32_t warp, std::mt19937_64 *random) {
    uint32_t first = warp * WARP, last = std::min(grid_.threads, first + WARP);
    int at = -1;
    uint32_t leader = first;
    if (random) {
      uint32_t from = (*random)() % (last - first);
      for (uint32_t i = 0; i < last - first && at < 0; i++) {
        leader = first + (from + i) % (last - first);
        if (threads_[leader].state == Thread::Running) at = threads_[leader].at;
      }
    } else {
      for (uint32_t t = first; t < last; t++)
        if (threads_[t].state == Thread::Running && (at < 0 || threads_[t].at < at)) at = threads_[t].at;
    }
    if (at < 0) return collective(first, last);
    const Instruction &in = program_.code[at];
    uint64_t together = random ? (*random)() : ~0ull;
    for (uint32_t t = first; t < last; t++) {
      Thread &thread = threads_[t];
      if (thread.state != Thread::Running || thread.at != at) continue;
      if (t == leader || together >> (t - first) & 1) execute(in, t);
    }
    return true;
  }

  // Let threads past a barrier that all have reached; false if none waits there.
  bool barrier() {
    uint32_t waiting = 0;
    for (auto &thread : threads_) waiting += thread.state == Thread::AtBarrier;
    if (!waiting || waiting + ended_ != grid_.threads) return false;
    if (ended_) fail(program_.name + ": a barrier that " + std::to_string(ended_) + " threads have left behind");
    for (auto &thread : threads_) thread.at++, thread.state = Thread::Running;
    return true;
  }

 private:
  [[noreturn]] void wrong(const Instruction &in, uint32_t thread, const std::string &what) const {
    fail(program_.name + ", block (" + std::to_string(x_) + ", " + std::to_string(y_) + "), thread " +
         std::to_string(thread) + ": " + what + ": " + in.text);
  }

  uint64_t value(const Operand &operand, uint32_t thread) const {
    if (operand.kind == Operand::Register) return registers_[thread * program_.masks.size() + operand.number];
    if (operand.kind == Operand::Immediate) return operand.value;
    switch (static_cast<Special>(operand.number)) {
      case Special::Tid: return thread;
      case Special::Ntid: return grid_.threads;
      case Special::CtaX: return x_;
      case Special::CtaY: return y_;
      case Special::NctaX: return grid_.x;
      default: return grid_.y;
    }
  }

  void set(int target, uint32_t thread, uint64_t to) {
    registers_[thread * program_.masks.size() + target] = to & program_.masks[target];
  }

  void *global(const Instruction &in, uint32_t thread) {
    uint64_t address = value(in.operand[0], thread) + in.offset, size = width(in.type);
    if (address < from_ || address + size > to_) {
      auto found = memory.upper_bound(address);
      if (found == memory.begin()) wrong(in, thread, "an address that is no memory");
      --found;
      if (address + size > found->first + found->second)
        wrong(in, thread, "beyond memory of " + std::to_string(found->second) + " bytes, by " +
                              std::to_string(address + size - found->first - found->second));
      from_ = found->first, to_ = found->first + found->second;
    }
    if (address % size) wrong(in, thread, "an address that is not aligned");
    return reinterpret_cast<void *>(address);
  }

  void *shared(const Instruction &in, uint32_t thread) {
    uint64_t address = value(in.operand[0], thread) + in.offset;
    if (address + width(in.type) > shared_.size()) wrong(in, thread, "beyond shared memory");
    return &shared_[address];
  }

  uint64_t loaded(const void *from, Type type) const {
    uint64_t found = 0;
    std::memcpy(&found, from, width(type));
    return extended(found, type);
  }

  uint64_t atomic(const Instruction &in, uint32_t thread) {
    void *place = global(in, thread);
    uint64_t before = loaded(place, in.type), given = value(in.operand[1], thread), after = before;
    Instruction choice = in;
    choice.op = in.update == Update::Max ? Op::Max : Op::Min;
    switch (in.update) {
      case Update::Add: after = before + given; break;
      case Update::Exchange: after = given; break;
      case Update::Or: after = before | given; break;
      case Update::And: after = before & given; break;
      case Update::Cas: after = before == extended(given, in.type) ? value(in.operand[2], thread) : before; break;
      default: after = extreme(choice, before, given);
    }
    std::memcpy(place, &after, width(in.type));
    return before;
  }

  void execute(const Instruction &in, uint32_t t) {
    Thread &thread = threads_[t];
    if (in.guard >= 0 && bool(registers_[t * program_.masks.size() + in.guard] & 1) == in.guard_negated) {
      thread.at++;
      return;
    }
    switch (in.op) {
      case Op::Branch: thread.at = in.jump; return;
      case Op::Return: thread.state = Thread::Ended, ended_++; return;
      case Op::Vote: case Op::Shuffle: thread.state = Thread::AtCollective; return;
      case Op::Barrier: thread.state = Thread::AtBarrier; return;
      case Op::Fence: break;
      case Op::LoadParam: set(in.target, t, extended(parameters_[in.offset], in.type)); break;
      case Op::LoadGlobal: set(in.target, t, loaded(global(in, t), in.type)); break;
      case Op::LoadShared: set(in.target, t, loaded(shared(in, t), in.type)); break;
      case Op::StoreGlobal: case Op::StoreShared: {
        uint64_t given = value(in.operand[1], t);
        std::memcpy(in.op == Op::StoreGlobal ? global(in, t) : shared(in, t), &given, width(in.type));
        break;
      }
      case Op::Atomic: set(in.target, t, atomic(in, t)); break;
      case Op::Bfi:
        set(in.target, t, inserted(in, value(in.operand[0], t), value(in.operand[1], t),
                                   value(in.operand[2], t), value(in.operand[3], t)));
        break;
      default:
        set(in.target, t, arithmetic(in, value(in.operand[0], t), value(in.operand[1], t), value(in.operand[2], t)));
    }
    thread.at++;
  }

  // What the lanes of a warp say to one another, once all of them are there.
  bool collective(uint32_t first, uint32_t last) {
    int at = -1;
    uint32_t waiting = 0;
    for (uint32_t t = first; t < last; t++) {
      if (threads_[t].state != Thread::AtCollective) continue;
      if (at >= 0 && threads_[t].at != at) wrong(program_.code[at], t, "lanes at different collectives");
      at = threads_[t].at, waiting++;
    }
    if (!waiting) return false;
    const Instruction &in = program_.code[at];
    if (waiting != last - first) wrong(in, first, "a collective that not all lanes reach");
    if (last - first != WARP) wrong(in, first, "a collective of a narrow warp");
    uint64_t results[WARP], vote = 0;
    for (uint32_t t = first; t < last; t++) {
      bool votes = in.op == Op::Vote;
      if (static_cast<uint32_t>(value(in.operand[votes ? 1 : 3], t)) != 0xFFFFFFFF) wrong(in, t, "a mask without all lanes");
      if (votes) vote |= (value(in.operand[0], t) & 1) << (t - first);
      else results[t - first] = value(in.operand[0], first + (value(in.operand[1], t) & (WARP - 1)));
    }
    for (uint32_t t = first; t < last; t++) {
      set(in.target, t, in.op == Op::Vote ? vote : results[t - first]);
      if (in.second_target >= 0) set(in.second_target, t, 1);
      threads_[t].at++, threads_[t].state = Thread::Running;
    }
    return true;
  }

  const Program &program_;
  Grid grid_;
  uint32_t x_, y_, ended_ = 0;
  const std::vector<uint64_t> &parameters_;
  std::vector<uint64_t> registers_;
  std::vector<Thread> threads_;
  std::vector<unsigned char> shared_;
  uint64_t from_ = 1, to_ = 0;  // the memory touched last
};

// Let each warp of a block have its turn; false if no thread could go on.
bool turn(Block &block, std::mt19937_64 *random, int most, uint64_t &steps) {
  bool moved = false;
  for (uint32_t i = 0; i < block.warps(); i++) {
    uint32_t warp = random ? (*random)() % block.warps() : i;
    for (int n = 0; n < most && block.step(warp, random); n++) moved = true, steps++;
  }
  return block.barrier() || moved;
}

}  // namespace

void note_memory(uint64_t address, uint64_t size) { memory[address] = size; }
void forget_memory(uint64_t address) { memory.erase(address); }

void run(const Program &program, Grid grid, const std::vector<uint64_t> &parameters, uint64_t order) {
  std::mt19937_64 generator(order), *random = order ? &generator : nullptr;
  std::vector<uint32_t> waiting(grid.x * grid.y);
  for (size_t i = 0; i < waiting.size(); i++) waiting[i] = static_cast<uint32_t>(waiting.size() - 1 - i);
  if (random) std::shuffle(waiting.begin(), waiting.end(), *random);
  std::vector<std::unique_ptr<Block>> running;
  size_t most = random ? SIDE_BY_SIDE : 1;
  uint64_t steps = 0;
  int idle = 0;
  while (!waiting.empty() || !running.empty()) {
    while (running.size() < most && !waiting.empty()) {
      uint32_t next = waiting.back();
      waiting.pop_back();
      running.push_back(std::make_unique<Block>(program, grid, next % grid.x, next / grid.x, parameters));
    }
    size_t which = random ? (*random)() % running.size() : 0;
    bool moved = turn(*running[which], random, random ? TURN : 1 << 20, steps);
    if (running[which]->ended()) running.erase(running.begin() + which), moved = true;
    idle = moved ? 0 : idle + 1;
    // A random turn may find warps that wait only; many in a row mean that nobody can go on.
    if (idle > (random ? 4096 : 1)) fail(program.name + ": its threads wait for one another");
    if (steps > MOST_STEPS) fail(program.name + ": it waits for what never comes");
  }
}

}  // namespace fake
