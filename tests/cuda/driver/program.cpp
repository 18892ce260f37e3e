#include "program.hpp"

#include <cctype>
#include <fstream>
#include <map>
#include <sstream>

namespace fake {
namespace {

using Words = std::vector<std::string>;

template <class Value>
Value named(const std::map<std::string, Value> &table, const std::string &name, const char *what) {
  auto found = table.find(name);
  if (found == table.end()) fail(std::string("unknown ") + what + " " + name);
  return found->second;
}

Type type_of(const std::string &name) {
  static const std::map<std::string, Type> types = {
      {"u8", Type::U8},   {"s8", Type::S8},   {"u16", Type::U16}, {"s16", Type::S16},
      {"u32", Type::U32}, {"s32", Type::S32}, {"u64", Type::U64}, {"s64", Type::S64},
      {"f32", Type::F32}, {"f64", Type::F64}, {"b8", Type::B8},   {"b16", Type::B16},
      {"b32", Type::B32}, {"b64", Type::B64}, {"pred", Type::Pred}};
  return named(types, name, "type");
}

std::string stripped(const std::string &text) {
  size_t first = text.find_first_not_of(" \t\r"), last = text.find_last_not_of(" \t\r");
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

Words split(const std::string &text, char by) {
  Words parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, by);) parts.push_back(stripped(part));
  return parts;
}

uint64_t mask_of(const std::string &name) {  // of a register, by its name
  if (name.rfind("%rd", 0) == 0 || name.rfind("%fd", 0) == 0) return ~0ull;
  if (name.rfind("%rs", 0) == 0) return 0xFFFF;
  if (name.rfind("%p", 0) == 0) return 1;
  return 0xFFFFFFFF;
}

class Reader {
 public:
  explicit Reader(const std::string &name) { program_.name = name; }

  Program read(std::ifstream &file) {
    bool body = false;
    for (std::string raw; std::getline(file, raw);) {
      std::string line = stripped(raw.substr(0, raw.find("//")));
      if (line.empty() || line.find(".entry") != std::string::npos) continue;
      if (line.find(".shared .align") != std::string::npos) shared(line);
      else if (line.rfind(".param", 0) == 0) parameter(line);
      else if (line == "{") body = true;
      else if (!body || line[0] == '.' || line[0] == '(' || line[0] == '}') continue;
      else if (line[0] == '$' && line.back() == ':') labels_[line.substr(0, line.size() - 1)] = place();
      else instruction(line);
    }
    for (auto &[at, label] : jumps_) program_.code[at].jump = named(labels_, label, "label");
    return program_;
  }

 private:
  int place() const { return static_cast<int>(program_.code.size()); }

  void shared(const std::string &line) {
    size_t from = line.find("_cudapy"), open = line.find('[', from), close = line.find(']', open);
    shared_[line.substr(from, open - from)] = program_.shared;
    program_.shared += (std::stoi(line.substr(open + 1, close - open - 1)) + 15) & ~15;
  }

  void parameter(const std::string &line) {
    std::istringstream words(line);
    std::string keyword, type, name;
    words >> keyword >> type >> name;
    if (name.back() == ',') name.pop_back();
    parameters_[name] = static_cast<int>(program_.parameters.size());
    program_.parameters.push_back(type_of(type.substr(1)));
  }

  int register_of(const std::string &name) {
    auto [found, fresh] = registers_.try_emplace(name, static_cast<int>(registers_.size()));
    if (fresh) program_.masks.push_back(mask_of(name));
    return found->second;
  }

  Operand operand(const std::string &text) {
    static const std::map<std::string, Special> specials = {
        {"%tid.x", Special::Tid},     {"%ntid.x", Special::Ntid},   {"%ctaid.x", Special::CtaX},
        {"%ctaid.y", Special::CtaY},  {"%nctaid.x", Special::NctaX}, {"%nctaid.y", Special::NctaY}};
    Operand made;
    if (text[0] == '%') {
      auto special = specials.find(text);
      bool of_thread = special != specials.end();
      made.kind = of_thread ? Operand::OfThread : Operand::Register;
      made.number = of_thread ? static_cast<int>(special->second) : register_of(text);
    } else if (shared_.count(text)) {
      made.value = shared_[text];
    } else if (text.rfind("0f", 0) == 0 || text.rfind("0d", 0) == 0) {
      made.value = std::strtoull(text.c_str() + 2, nullptr, 16);
    } else {
      made.value = text[0] == '-' ? static_cast<uint64_t>(std::strtoll(text.c_str(), nullptr, 0))
                                  : std::strtoull(text.c_str(), nullptr, 0);
    }
    return made;
  }

  Operand address(const std::string &text, Instruction &made) {
    std::string inside = text.substr(1, text.size() - 2);
    size_t plus = inside.find('+', 1);
    if (plus != std::string::npos) made.offset = std::strtoll(inside.c_str() + plus + 1, nullptr, 0);
    return operand(inside.substr(0, plus));
  }

  void instruction(std::string line) {
    Instruction made;
    made.text = line;
    if (line.back() == ';') line.pop_back();
    if (line[0] == '@') {
      size_t end = line.find_first_of(" \t");
      made.guard_negated = line[1] == '!';
      made.guard = register_of(line.substr(made.guard_negated ? 2 : 1, end - (made.guard_negated ? 2 : 1)));
      line = stripped(line.substr(end));
    }
    size_t end = line.find_first_of(" \t");
    Words name = split(line.substr(0, end), '.');
    Words arguments = end == std::string::npos ? Words{} : split(line.substr(end), ',');
    if (!control(made, name, arguments) && !memory(made, name, arguments)) compute(made, name, arguments);
    program_.code.push_back(made);
  }

  bool control(Instruction &made, const Words &name, const Words &arguments) {
    const std::string &what = name[0];
    if (what == "bra") {
      made.op = Op::Branch;
      jumps_.push_back({place(), arguments[0]});
    } else if (what == "ret") {
      made.op = Op::Return;
    } else if (what == "bar" || what == "barrier") {
      made.op = Op::Barrier;
    } else if (what == "membar" || what == "fence") {
      made.op = Op::Fence;
    } else if (what == "vote" || what == "shfl") {
      made.op = what == "vote" ? Op::Vote : Op::Shuffle;
      Words targets = split(arguments[0], '|');
      made.target = register_of(targets[0]);
      if (targets.size() > 1) made.second_target = register_of(targets[1]);
      for (size_t i = 1; i < arguments.size(); i++) made.operand[i - 1] = operand(arguments[i]);
    } else {
      return false;
    }
    return true;
  }

  bool memory(Instruction &made, const Words &name, const Words &arguments) {
    static const std::map<std::string, Update> updates = {
        {"add", Update::Add}, {"exch", Update::Exchange}, {"cas", Update::Cas}, {"or", Update::Or},
        {"and", Update::And}, {"max", Update::Max},       {"min", Update::Min}};
    bool shared = name.size() > 1 && (name[1] == "shared" || (name.size() > 2 && name[2] == "shared"));
    made.type = type_of_last(name);
    if (name[0] == "ld" && name[1] == "param") {
      made.op = Op::LoadParam;
      made.target = register_of(arguments[0]);
      made.offset = named(parameters_, arguments[1].substr(1, arguments[1].size() - 2), "parameter");
    } else if (name[0] == "ld") {
      made.op = shared ? Op::LoadShared : Op::LoadGlobal;
      made.target = register_of(arguments[0]);
      made.operand[0] = address(arguments[1], made);
    } else if (name[0] == "st") {
      made.op = shared ? Op::StoreShared : Op::StoreGlobal;
      made.operand[0] = address(arguments[0], made);
      made.operand[1] = operand(arguments[1]);
    } else if (name[0] == "atom") {
      made.op = Op::Atomic;
      made.update = named(updates, name[name.size() - 2], "atomic operation");
      made.target = register_of(arguments[0]);
      made.operand[0] = address(arguments[1], made);
      for (size_t i = 2; i < arguments.size(); i++) made.operand[i - 1] = operand(arguments[i]);
    } else {
      return false;
    }
    return true;
  }

  static Type type_of_last(const Words &name) {
    static const std::map<std::string, int> without = {{"ret", 0}, {"bra", 0}};
    return without.count(name[0]) ? Type::B32 : type_of(name.back());
  }

  void compute(Instruction &made, const Words &name, const Words &arguments) {
    static const std::map<std::string, Op> operations = {
        {"mov", Op::Mov},   {"cvta", Op::Mov},  {"add", Op::Add},   {"sub", Op::Sub},   {"div", Op::Div},
        {"rem", Op::Rem},   {"and", Op::And},   {"or", Op::Or},     {"xor", Op::Xor},   {"not", Op::Not},
        {"neg", Op::Neg},   {"abs", Op::Abs},   {"min", Op::Min},   {"max", Op::Max},   {"shl", Op::Shl},
        {"shr", Op::Shr},   {"selp", Op::Selp}, {"popc", Op::Popc}, {"clz", Op::Clz},   {"brev", Op::Brev},
        {"bfind", Op::Bfind}, {"bfi", Op::Bfi}, {"mul", Op::Mul},   {"mad", Op::Mad},   {"setp", Op::Setp},
        {"cvt", Op::Cvt}};
    static const std::map<std::string, Compare> compares = {
        {"eq", Compare::Eq}, {"ne", Compare::Ne}, {"lt", Compare::Lt},
        {"le", Compare::Le}, {"gt", Compare::Gt}, {"ge", Compare::Ge}};
    made.op = named(operations, name[0], "instruction");
    made.type = type_of(name.back());
    if (made.op == Op::Setp) {
      if (name.size() != 3) fail("unknown form " + made.text);
      made.compare = named(compares, name[1], "comparison");
    } else if (made.op == Op::Cvt) {
      made.from = made.type;
      made.type = type_of(name[name.size() - 2]);
      for (auto &part : name) {
        if (part == "rmi") made.rounding = Rounding::Down;
        if (part == "rzi") made.rounding = Rounding::Zero;
        if (part == "rn") made.rounding = Rounding::Nearest;
      }
    } else if (made.op == Op::Mul && made.type != Type::F32 && made.type != Type::F64) {
      made.op = name[1] == "wide" ? Op::MulWide : name[1] == "hi" ? Op::MulHigh : Op::Mul;
    } else if (made.op == Op::Mad && name[1] != "lo") {
      fail("unknown form " + made.text);
    } else if (made.op == Op::Bfind && name[1] != "shiftamt") {
      fail("unknown form " + made.text);
    }
    made.target = register_of(arguments[0]);
    for (size_t i = 1; i < arguments.size(); i++) made.operand[i - 1] = operand(arguments[i]);
  }

  Program program_;
  std::map<std::string, int> registers_, labels_, parameters_;
  std::map<std::string, uint32_t> shared_;
  std::vector<std::pair<int, std::string>> jumps_;
};

}  // namespace

Program read_program(const std::string &name, const std::string &path) {
  std::ifstream file(path);
  if (!file) fail("no file " + path);
  return Reader(name).read(file);
}

}  // namespace fake
