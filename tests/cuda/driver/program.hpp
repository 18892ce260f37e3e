// A kernel as the interpreter takes it: PTX text, read once into instructions with numbered registers.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace fake {

enum class Type : uint8_t { U8, S8, U16, S16, U32, S32, U64, S64, F32, F64, B8, B16, B32, B64, Pred };

inline int width(Type type) {
  switch (type) {
    case Type::U8: case Type::S8: case Type::B8: return 1;
    case Type::U16: case Type::S16: case Type::B16: return 2;
    case Type::U32: case Type::S32: case Type::B32: case Type::F32: return 4;
    case Type::Pred: return 1;
    default: return 8;
  }
}

inline bool is_signed(Type type) {
  return type == Type::S8 || type == Type::S16 || type == Type::S32 || type == Type::S64;
}

enum class Op : uint8_t {
  Mov, Add, Sub, Mul, MulWide, MulHigh, Mad, Div, Rem, And, Or, Xor, Not, Neg, Abs, Min, Max,
  Shl, Shr, Setp, Selp, Cvt, LoadGlobal, StoreGlobal, LoadShared, StoreShared, LoadParam,
  Branch, Return, Vote, Shuffle, Barrier, Popc, Clz, Brev, Bfind, Bfi, Atomic, Fence
};
enum class Compare : uint8_t { Eq, Ne, Lt, Le, Gt, Ge };
enum class Rounding : uint8_t { None, Down, Zero, Nearest };
enum class Update : uint8_t { Add, Exchange, Cas, Or, And, Max, Min };
enum class Special : int { Tid, Ntid, CtaX, CtaY, NctaX, NctaY };

struct Operand {
  enum Kind : uint8_t { Register, Immediate, OfThread } kind = Immediate;
  int number = -1;    // of the register, or of the special one
  uint64_t value = 0; // of the immediate
};

struct Instruction {
  Op op = Op::Mov;
  Type type = Type::B32, from = Type::B32;
  Compare compare = Compare::Eq;
  Rounding rounding = Rounding::None;
  Update update = Update::Add;
  int target = -1, second_target = -1; // registers
  Operand operand[4];
  int guard = -1; // predicate, or -1
  bool guard_negated = false;
  int jump = -1;      // of a branch: number of an instruction
  int64_t offset = 0; // of an address; of a parameter, its number
  std::string text;
};

struct Program {
  std::string name;
  std::vector<Instruction> code;
  std::vector<Type> parameters;
  std::vector<uint64_t> masks; // of the registers: what their width keeps
  uint32_t shared = 0;         // bytes
};

Program read_program(const std::string &name, const std::string &path);

[[noreturn]] inline void fail(const std::string &what) {
  std::fprintf(stderr, "fake driver: %s\n", what.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace fake
