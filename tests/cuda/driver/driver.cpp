// A libcuda.so.1 for machines without a GPU. Its memory is the host's, freshly poisoned; launches
// are interpreted (interpreter.cpp), or left out where FAKE_PTX is not set: then only the host's
// part of the work is done and counted.
//
//   FAKE_PTX    folder of NAME.ptx, one for each kernel (see `python -m tests.cuda.driver`)
//   FAKE_ORDER  0 (in order), or a seed: threads, warps and blocks in a random order
//   FAKE_LAZY   1: work of a stream waits until somebody synchronizes, and is done no further than
//               that asks for, so that memory of the host that is written again too early is seen
#include <dirent.h>
#include <dlfcn.h>

#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "interpreter.hpp"

using Result = int;
using Address = uint64_t;

namespace {

enum Count { Launches, ToDevice, ToHost, Within, Waits, Idle, BytesToDevice, BytesToHost, Allocations, Graphs, Counts };
long counts[Counts];
std::set<const void *> pinned;
std::deque<std::function<void()>> pending;
long asked = 0;  // launches and copies so far: an event knows how many came before it
std::map<std::string, fake::Program> programs;
uint64_t order_seed = 0;
bool lazy = false, begun = false;
Address context = 0x1000, current = 0;

void begin() {
  if (begun) return;
  begun = true;
  if (const char *given = std::getenv("FAKE_ORDER")) order_seed = std::strtoull(given, nullptr, 10);
  if (const char *given = std::getenv("FAKE_LAZY")) lazy = given[0] == '1';
  const char *folder = std::getenv("FAKE_PTX");
  DIR *files = folder ? opendir(folder) : nullptr;
  if (folder && !files) fake::fail(std::string("FAKE_PTX: no folder ") + folder);
  while (dirent *file = files ? readdir(files) : nullptr) {
    std::string name = file->d_name;
    size_t end = name.rfind(".ptx");
    if (end == std::string::npos) continue;
    name.resize(end);
    programs.emplace(name, fake::read_program(name, std::string(folder) + "/" + file->d_name));
  }
  if (files) closedir(files);
}

void flush() {
  while (!pending.empty()) {
    auto work = std::move(pending.front());
    pending.pop_front();
    work();
  }
}

struct Event {
  double milliseconds = 0;
  long before = 0;
  bool reached = true;
  bool captured = false;  // recorded into a graph: nobody can wait for it
};

Event *event_at(Address event) { return reinterpret_cast<Event *>(event); }

// Do what waits until an event is reached.
void flush_to(const Event *event) {
  while (!event->reached && !pending.empty()) {
    auto work = std::move(pending.front());
    pending.pop_front();
    work();
  }
}

// A graph: what was launched and copied between the beginning and the end of its capture.
struct Graph {
  std::vector<std::function<void()>> nodes;
};
Graph *capturing = nullptr;
bool broken = false;  // by a call that no capture allows

constexpr Result InCapture = 900, Broken = 901, OfCapture = 907;

bool forbidden() { return capturing ? broken = true : false; }

void enqueue(std::function<void()> work) {
  if (capturing) return capturing->nodes.push_back(std::move(work));
  asked++;
  if (lazy) pending.push_back(std::move(work));
  else work();
}

// The program of a kernel: its mangled name has the plain one after its length.
const fake::Program *program_of(const std::string &mangled) {
  for (auto &[name, program] : programs)
    if (mangled.find(std::to_string(name.size()) + name + "B") != std::string::npos) return &program;
  if (!programs.empty()) fake::fail("no PTX of the kernel " + mangled.substr(0, 100));
  return nullptr;
}

Result launch(const char *name, fake::Grid grid, void **arguments) {
  begin();
  if (!capturing) counts[Launches]++;
  if (!grid.x || !grid.y || grid.y > 65535 || !grid.threads || grid.threads > 1024) return 1;
  const fake::Program *program = program_of(name);
  if (!program) return 0;
  std::vector<uint64_t> parameters;
  for (size_t i = 0; i < program->parameters.size(); i++) {
    uint64_t value = 0;
    std::memcpy(&value, arguments[i], fake::width(program->parameters[i]));
    parameters.push_back(value);
  }
  uint64_t order = order_seed ? order_seed++ : 0;
  enqueue([=] { fake::run(*program, grid, parameters, order); });
  return 0;
}

Result unsupported() { return 801; }

}  // namespace

extern "C" {

// ---- what tests ask ----

void fake_counts(long *out) { std::memcpy(out, counts, sizeof counts); }
void fake_flush() { flush(); }
void fake_do(void (*work)(long), long which) {
  enqueue([=] { work(which); });
}

// ---- the device ----

Result F_cuInit(unsigned) { return 0; }
Result F_cuDriverGetVersion(int *version) { return *version = 13000, 0; }
Result F_cuDeviceGet(int *device, int number) { return *device = number, 0; }
Result F_cuDeviceGetCount(int *count) { return *count = 1, 0; }
Result F_cuDeviceGetName(char *name, int length, int) { return std::strncpy(name, "Fake GPU", length), 0; }
Result F_cuDeviceGetUuid(char *uuid, int) { return std::memset(uuid, 7, 16), 0; }
Result F_cuDeviceTotalMem(size_t *bytes, int) { return *bytes = 80ull << 30, 0; }
Result F_cuDeviceGetAttribute(int *value, int attribute, int) {
  static const std::map<int, int> known = {
      {1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535}, {7, 65535}, {8, 49152},
      {10, 32},  {12, 65536}, {16, 132}, {39, 2048}, {75, 9}, {76, 0}};
  auto found = known.find(attribute);
  return *value = found == known.end() ? 1 : found->second, 0;
}

// ---- contexts ----

Result F_cuDevicePrimaryCtxRetain(Address *out, int) { return *out = reinterpret_cast<Address>(&context), 0; }
Result F_cuDevicePrimaryCtxRelease(int) { return 0; }
Result F_cuDevicePrimaryCtxGetState(int, unsigned *flags, int *active) { return *flags = 0, *active = 1, 0; }
Result F_cuCtxGetCurrent(Address *out) { return *out = current, 0; }
Result F_cuCtxSetCurrent(Address to) { return current = to, 0; }
Result F_cuCtxPushCurrent(Address to) { return current = to, 0; }
Result F_cuCtxPopCurrent(Address *out) { return *out = current, 0; }
Result F_cuCtxGetDevice(int *device) { return *device = 0, 0; }
Result F_cuCtxGetId(Address, unsigned long long *id) { return *id = 1, 0; }
Result F_cuCtxSynchronize() {
  if (forbidden()) return InCapture;
  return counts[Waits]++, counts[Idle]++, flush(), 0;
}
Result F_cuCtxGetStreamPriorityRange(int *low, int *high) { return *low = 0, *high = -5, 0; }

// ---- memory ----

Result F_cuMemAlloc(Address *out, size_t bytes) {
  if (forbidden()) return InCapture;
  void *made = std::aligned_alloc(256, (bytes + 4096 + 255) & ~255ull);
  if (!made) return 2;
  std::memset(made, 0xA5, bytes + 4096);
  *out = reinterpret_cast<Address>(made);
  counts[Allocations]++;
  fake::note_memory(*out, bytes);
  return 0;
}
Result F_cuMemFree(Address at) {
  if (forbidden()) return InCapture;
  flush();
  fake::forget_memory(at);
  std::free(reinterpret_cast<void *>(at));
  return 0;
}
Result F_cuMemGetInfo(size_t *unused, size_t *total) { return *unused = 70ull << 30, *total = 80ull << 30, 0; }
Result F_cuMemHostAlloc(void **out, size_t bytes, unsigned) {
  *out = std::calloc(1, bytes);
  pinned.insert(*out);
  return *out ? 0 : 2;
}
Result F_cuMemFreeHost(void *at) { return flush(), pinned.erase(at), std::free(at), 0; }
Result F_cuMemHostGetDevicePointer(Address *out, void *host, unsigned) {
  return *out = reinterpret_cast<Address>(host), 0;
}

Result F_cuMemcpyHtoDAsync(Address to, const void *from, size_t bytes, Address) {
  if (capturing && !pinned.count(from)) return forbidden(), InCapture;
  if (!capturing) counts[ToDevice]++, counts[BytesToDevice] += bytes;
  void *target = reinterpret_cast<void *>(to);
  if (pinned.count(from)) {
    enqueue([=] { std::memcpy(target, from, bytes); });
  } else {  // taken at once, as the driver does with memory that may move
    std::string taken(static_cast<const char *>(from), bytes);
    enqueue([=] { std::memcpy(target, taken.data(), bytes); });
  }
  return 0;
}
Result F_cuMemcpyHtoD(Address to, const void *from, size_t bytes) {
  counts[Waits]++;
  return F_cuMemcpyHtoDAsync(to, from, bytes, 0), flush(), 0;
}
Result F_cuMemcpyDtoHAsync(void *to, Address from, size_t bytes, Address) {
  if (capturing && !pinned.count(to)) return forbidden(), InCapture;
  if (!capturing) counts[ToHost]++, counts[BytesToHost] += bytes;
  enqueue([=] { std::memcpy(to, reinterpret_cast<void *>(from), bytes); });
  if (!pinned.count(to) && !capturing) flush();  // a copy to memory that may move ends before the call does
  return 0;
}
Result F_cuMemcpyDtoH(void *to, Address from, size_t bytes) {
  counts[Waits]++;
  return F_cuMemcpyDtoHAsync(to, from, bytes, 0), flush(), 0;
}
Result F_cuMemcpyDtoDAsync(Address to, Address from, size_t bytes, Address) {
  if (!capturing) counts[Within]++;
  enqueue([=] { std::memmove(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), bytes); });
  return 0;
}
Result F_cuMemcpyDtoD(Address to, Address from, size_t bytes) {
  return F_cuMemcpyDtoDAsync(to, from, bytes, 0), flush(), 0;
}
Result F_cuMemsetD8Async(Address at, unsigned char value, size_t bytes, Address) {
  enqueue([=] { std::memset(reinterpret_cast<void *>(at), value, bytes); });
  return 0;
}
Result F_cuMemsetD8(Address at, unsigned char value, size_t bytes) {
  return F_cuMemsetD8Async(at, value, bytes, 0), flush(), 0;
}
Result F_cuPointerGetAttribute(void *out, int attribute, Address at) {
  if (attribute == 9) return *static_cast<int *>(out) = 0, 0;
  if (attribute == 2) return *static_cast<unsigned *>(out) = 2, 0;
  return *static_cast<Address *>(out) = attribute == 1 ? reinterpret_cast<Address>(&context) : at, 0;
}

// ---- streams and events ----

Result F_cuStreamCreate(Address *out, unsigned) { return *out = reinterpret_cast<Address>(std::malloc(16)), 0; }
Result F_cuStreamDestroy(Address) { return flush(), 0; }
Result F_cuStreamSynchronize(Address) {
  if (forbidden()) return InCapture;
  return counts[Waits]++, counts[Idle]++, flush(), 0;
}
Result F_cuStreamGetDevice(Address, int *device) { return *device = 0, 0; }
Result F_cuStreamGetCtx(Address, Address *out, Address *green) {
  *out = reinterpret_cast<Address>(&context);
  if (green) *green = 0;
  return 0;
}
Result F_cuStreamGetPriority(Address, int *out) { return *out = 0, 0; }
Result F_cuStreamGetFlags(Address, unsigned *out) { return *out = 0, 0; }
Result F_cuStreamIsCapturing(Address, int *out) { return *out = capturing ? 1 : 0, 0; }
Result F_cuStreamBeginCapture(Address, int) {
  if (capturing) return forbidden(), InCapture;
  return capturing = new Graph, broken = false, 0;
}
Result F_cuStreamEndCapture(Address, Address *out) {
  Graph *made = capturing;
  capturing = nullptr;
  if (broken) delete made, made = nullptr;
  return *out = reinterpret_cast<Address>(made), broken ? Broken : 0;
}
// An executable graph is the graph; programs of tests keep it.
Result F_cuGraphInstantiate(Address *out, Address graph, unsigned long long) { return *out = graph, 0; }
Result F_cuGraphInstantiateWithFlags(Address *out, Address graph, unsigned long long) { return *out = graph, 0; }
Result F_cuGraphLaunch(Address at, Address) {
  if (capturing) return forbidden(), InCapture;
  counts[Graphs]++;
  Graph *graph = reinterpret_cast<Graph *>(at);
  enqueue([=] {
    for (auto &node : graph->nodes) node();
  });
  return 0;
}
Result F_cuEventCreate(Address *out, unsigned) { return *out = reinterpret_cast<Address>(new Event), 0; }
Result F_cuEventDestroy(Address event) { return flush_to(event_at(event)), delete event_at(event), 0; }
Result F_cuEventRecord(Address at, Address) {
  Event *event = event_at(at);
  if ((event->captured = capturing != nullptr)) return 0;
  auto now = std::chrono::steady_clock::now().time_since_epoch();
  event->milliseconds = std::chrono::duration<double, std::milli>(now).count();
  event->before = asked;
  event->reached = pending.empty();
  if (!event->reached) pending.push_back([=] { event->reached = true; });
  return 0;
}
Result F_cuEventSynchronize(Address at) {
  if (forbidden()) return InCapture;
  if (event_at(at)->captured) return OfCapture;
  counts[Waits]++;
  if (event_at(at)->before == asked) counts[Idle]++;  // nothing is left for the device to do
  return flush_to(event_at(at)), 0;
}
Result F_cuEventQuery(Address at) {
  if (forbidden()) return InCapture;
  if (event_at(at)->captured) return OfCapture;
  return event_at(at)->reached ? 0 : 600;
}
Result F_cuEventElapsedTime(float *out, Address from, Address to) {
  return *out = static_cast<float>(event_at(to)->milliseconds - event_at(from)->milliseconds), 0;
}

// ---- code ----

Result F_cuLibraryLoadData(Address *out, const void *, void *, void *, unsigned, void *, void *, unsigned) {
  return *out = reinterpret_cast<Address>(std::malloc(64)), 0;
}
Result F_cuLibraryUnload(Address) { return 0; }
Result F_cuLibraryGetKernel(Address *out, Address, const char *name) {
  return *out = reinterpret_cast<Address>(strdup(name)), 0;
}
Result F_cuLibraryGetModule(Address *out, Address) { return *out = reinterpret_cast<Address>(std::malloc(64)), 0; }
Result F_cuLibraryGetKernelCount(unsigned *out, Address) { return *out = 1, 0; }
Result F_cuLibraryGetGlobal(Address *, size_t *, Address, const char *) { return 500; }
Result F_cuKernelGetFunction(Address *out, Address kernel) { return *out = kernel, 0; }
Result F_cuKernelGetAttribute(int *value, int attribute, Address, int) { return *value = attribute ? 32 : 1024, 0; }
Result F_cuFuncGetAttribute(int *value, int attribute, Address) { return *value = attribute ? 32 : 1024, 0; }
Result F_cuModuleLoadDataEx(Address *out, const void *, unsigned, void *, void *) {
  return *out = reinterpret_cast<Address>(std::malloc(64)), 0;
}
Result F_cuModuleGetFunction(Address *out, Address, const char *name) {
  return *out = reinterpret_cast<Address>(strdup(name)), 0;
}
Result F_cuLaunchKernelEx(const unsigned *config, Address function, void **arguments, void **) {
  if (config[2] != 1 || config[4] != 1 || config[5] != 1) return 1;  // two axes of blocks, one of threads
  return launch(reinterpret_cast<const char *>(function), {config[0], config[1], config[3]}, arguments);
}
Result F_cuLaunchKernel(Address function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned ty,
                        unsigned tz, unsigned, Address, void **arguments, void **) {
  if (z != 1 || ty != 1 || tz != 1) return 1;
  return launch(reinterpret_cast<const char *>(function), {x, y, threads}, arguments);
}

Result F_cuGetErrorName(int, const char **out) { return *out = "FAKE_DRIVER_ERROR", 0; }
Result F_cuGetErrorString(int, const char **out) { return *out = "an error of the fake driver", 0; }

// ---- how libraries find all this ----

Result cuGetProcAddress_v2(const char *name, void **out, int, uint64_t, int *status) {
  if (status) *status = 0;
  if (!std::strcmp(name, "cuGetProcAddress") || !*name) {
    *out = reinterpret_cast<void *>(cuGetProcAddress_v2);
    return 0;
  }
  Dl_info self;
  dladdr(reinterpret_cast<void *>(cuGetProcAddress_v2), &self);
  void *library = dlopen(self.dli_fname, RTLD_NOLOAD | RTLD_NOW);
  void *found = dlsym(library, (std::string("F_") + name).c_str());
  *out = found ? found : reinterpret_cast<void *>(unsupported);
  return 0;
}
Result cuGetProcAddress(const char *name, void **out, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, out, version, flags, nullptr);
}
Result cuInit(unsigned) { return 0; }
Result cuDriverGetVersion(int *version) { return F_cuDriverGetVersion(version); }
Result cuDeviceGetCount(int *count) { return F_cuDeviceGetCount(count); }

}  // extern "C"
