// A simulated libnvidia-ml.so.1 that answers like NVML with a known true power.
//
// It reads one text file, named by FAKENVML (key=value lines), when NVML is initialised:
//   devices=N            how many                              limit=W       power limit (default 700)
//   wave=constant|square|ramp|bursts|noise                     hi=W lo=W     levels (default 700, 100)
//   period=s duty=share  of the square, ramp and bursts        phase=s       shift of device i: i * phase
//   counter=s            update period of the energy counter   window=s update=s  power sensor: mean over window, each update
//   mig=1                MIG mode on                           clock=PATH    virtual time: a file holding one double, mapped
//   migs=3,2,2           compute slices of the instances of each device (UUIDs MIG-DD-K: device, instance)
//   sick=I code=N        device I answers NVML code N; sickat=s sickuntil=s  from when until when (virtual s)
//   sickwhat=energy|all  only its energy counter, or everything
//   reasons=event|throttle|none   which call for clock reasons the driver has (CUDA 14 drops the older)
//   step=W               a limit is silently rounded down to whole steps
//   memlock=0            locking memory clocks is refused although they are listed
//   module=W             a module (superchip) with this power limit, in scope 1 of fields and of the setter's second version
//   profiles=a,b         workload power profiles that the device has     smoothing=0|1  power smoothing, off or on
//   persistence=0|1      persistence mode (default 1)         names=a,b     names of the devices, in order
//   fault=none|lost|permission|nocounter|reset|stuck|slow|nofields           at=s  when lost, reset and stuck begin
//   slow=s               how long a slow call takes
//   state=PATH           what is set, in a file that outlives the process and that several may share; else in memory
//   found=W              the limit that an administrator left in force (default: limit)   enforced=W  another limiter
//   clamp=W              a limit below this is silently raised to it
//   latency=s            how long a setting takes: half before it is in force, half after
//   fault=noset          settings are refused for want of permission
// The true energy of device i from time 0 to t is exported as `double fake_energy(unsigned i, double t)`, and now as
// `double fake_now(void)`, so that a test asks the truth of the same code.
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef void *H;
typedef unsigned u;
typedef unsigned long long ull;
enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, TOO_SMALL = 7, LOST = 15 };
enum { LOWEST = 200, HIGHEST = 700, MOST = 4096 };  // W, W, devices

static struct {
    double devices, limit, hi, lo, period, duty, phase, counter, window, update, mig, at, slow;
    double found, enforced, clamp, latency;
    double sick, code, sickat, sickuntil, step, memlock, module, smoothing, persistence;
    char wave[16], fault[16], clock[512], state[512], migs[64], sickwhat[16], reasons[16], profiles[64], names[256];
} c;
// What is set on a device: the limit in W, locked clocks in MHz (0: none), and how often anything was set.
typedef struct { double limit, core, memory, sets, core_low, module, profile, smoothing; } Knobs;
static Knobs own[MOST], *knobs = own;
static volatile double *virtual_now;

static void number(const char *line, const char *key, double *to) {
    size_t n = strlen(key);
    if (!strncmp(line, key, n) && line[n] == '=') *to = atof(line + n + 1);
}
static void text(char *line, const char *key, char *to, size_t size) {
    size_t n = strlen(key);
    if (!strncmp(line, key, n) && line[n] == '=') { line[strcspn(line, "\r\n")] = 0; snprintf(to, size, "%s", line + n + 1); }
}
static void configure(void) {
    c.devices = 1; c.limit = 700; c.hi = 700; c.lo = 100; c.period = 0.13; c.duty = 0.25; c.phase = 0;
    c.found = c.enforced = c.clamp = c.latency = 0; c.state[0] = 0;
    c.sick = -1; c.code = 999; c.sickat = 0; c.sickuntil = 1e18; c.step = 0; c.memlock = 1; c.module = 0;
    c.smoothing = -1; c.persistence = 1; c.migs[0] = c.profiles[0] = c.names[0] = 0;
    strcpy(c.sickwhat, "all"); strcpy(c.reasons, "event");
    c.counter = 0.1; c.window = 0.025; c.update = 0.1; c.mig = 0; c.at = 0; c.slow = 0.02;
    strcpy(c.wave, "square"); strcpy(c.fault, "none"); c.clock[0] = 0;
    const char *path = getenv("FAKENVML");
    FILE *f = path ? fopen(path, "r") : NULL;
    char line[1024];
    while (f && fgets(line, sizeof line, f)) {
        number(line, "devices", &c.devices); number(line, "limit", &c.limit); number(line, "hi", &c.hi);
        number(line, "lo", &c.lo); number(line, "period", &c.period); number(line, "duty", &c.duty);
        number(line, "phase", &c.phase); number(line, "counter", &c.counter); number(line, "window", &c.window);
        number(line, "update", &c.update); number(line, "mig", &c.mig); number(line, "at", &c.at);
        number(line, "slow", &c.slow); text(line, "wave", c.wave, sizeof c.wave);
        text(line, "fault", c.fault, sizeof c.fault); text(line, "clock", c.clock, sizeof c.clock);
        number(line, "found", &c.found); number(line, "enforced", &c.enforced); number(line, "clamp", &c.clamp);
        number(line, "sick", &c.sick); number(line, "code", &c.code); number(line, "sickat", &c.sickat);
        number(line, "sickuntil", &c.sickuntil); number(line, "step", &c.step); number(line, "memlock", &c.memlock);
        number(line, "module", &c.module); number(line, "smoothing", &c.smoothing);
        number(line, "persistence", &c.persistence); text(line, "migs", c.migs, sizeof c.migs);
        text(line, "sickwhat", c.sickwhat, sizeof c.sickwhat); text(line, "reasons", c.reasons, sizeof c.reasons);
        text(line, "profiles", c.profiles, sizeof c.profiles); text(line, "names", c.names, sizeof c.names);
        number(line, "latency", &c.latency); text(line, "state", c.state, sizeof c.state);
    }
    if (f) fclose(f);
    if (c.clock[0]) {
        int fd = open(c.clock, O_RDONLY);
        void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(double), PROT_READ, MAP_SHARED, fd, 0);
        if (fd >= 0) close(fd);
        if (map != MAP_FAILED) virtual_now = map;
    }
    knobs = own;
    memset(own, 0, sizeof own);
    if (c.state[0]) {
        int fd = open(c.state, O_RDWR | O_CREAT, 0600);
        void *map = fd < 0 || ftruncate(fd, sizeof own) ? MAP_FAILED : mmap(NULL, sizeof own, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (fd >= 0) close(fd);
        if (map != MAP_FAILED) knobs = map;
    }
    for (u i = 0; i < MOST; i++) {
        if (knobs[i].limit == 0) knobs[i].limit = c.found ? c.found : c.limit;
        if (knobs[i].module == 0) knobs[i].module = c.module;
    }
    if (c.smoothing >= 0) for (u i = 0; i < MOST; i++) if (knobs[i].sets == 0) knobs[i].smoothing = c.smoothing;
}

double fake_now(void) {
    if (virtual_now) return *virtual_now;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

// Cells of noise: level k is a fixed hash of k, held for 5 ms; 4096 of them repeat (20.48 s).
static double level(unsigned k) {
    k *= 2654435761u; k ^= k >> 15; k *= 2246822519u; k ^= k >> 13;
    return c.lo + (c.hi - c.lo) * (k % 10000u) / 10000.0;
}
double fake_energy(unsigned device, double t) {
    t += device * c.phase;
    if (!strcmp(c.wave, "constant")) return c.hi * t;
    if (!strcmp(c.wave, "noise")) {
        static double sum[4097];
        if (sum[4096] == 0) for (unsigned k = 0; k < 4096; k++) sum[k + 1] = sum[k] + 0.005 * level(k);
        double rounds = floor(t / 20.48), rest = t - rounds * 20.48;
        unsigned k = (unsigned)(rest / 0.005);
        if (k > 4095) k = 4095;
        return rounds * sum[4096] + sum[k] + (rest - k * 0.005) * level(k);
    }
    double T = c.period, n = floor(t / T), r = t - n * T;
    if (!strcmp(c.wave, "ramp")) {
        double slope = (c.hi - c.lo) / T;
        return n * T * (c.lo + c.hi) / 2 + r * (c.lo + slope * r / 2);
    }
    // square and bursts: hi for duty of the period, then lo
    double d = c.duty * T;
    return n * (d * c.hi + (T - d) * c.lo) + (r < d ? r * c.hi : d * c.hi + (r - d) * c.lo);
}

// A handle is a device's number and one; an instance's has its own number and one above bit 16.
static u index_of(H h) { return ((u)(size_t)h & 0xffff) - 1; }
static u instance_of(H h) { return (u)(size_t)h >> 16; }
// The k-th number of a list such as 3,2,2; -1 where there is none.
static int item(const char *list, u k) {
    for (; k && list; k--) { list = strchr(list, ','); if (list) list++; }
    return list && *list ? atoi(list) : -1;
}
static int is(const char *fault) { return !strcmp(c.fault, fault); }
static int gate(H h) {
    if (is("slow")) usleep((useconds_t)(c.slow * 1e6));
    if (is("lost") && index_of(h) == 0 && fake_now() >= c.at) return LOST;
    if ((int)index_of(h) == (int)c.sick && !strcmp(c.sickwhat, "all") && fake_now() >= c.sickat && fake_now() < c.sickuntil)
        return (int)c.code;
    return OK;
}
static int counter_gate(H h) {
    int bad = gate(h);
    if (!bad && (int)index_of(h) == (int)c.sick && fake_now() >= c.sickat && fake_now() < c.sickuntil) bad = (int)c.code;
    return bad;
}
static double held(double t, double period) { return floor(t / period) * period; }
static ull counter(H h) {
    double t = fake_now();
    if (is("stuck") && t >= c.at) t = c.at;
    t = held(t, c.counter);
    double e = fake_energy(index_of(h), t);
    if (is("reset") && t >= c.at) e -= fake_energy(index_of(h), held(c.at, c.counter));
    return (ull)(e * 1e3);
}
static u power(H h, double window) {
    double t = held(fake_now(), c.update);
    return (u)((fake_energy(index_of(h), t) - fake_energy(index_of(h), t - window)) / window * 1e3);
}

int nvmlInitWithFlags(u flags) { (void)flags; configure(); return OK; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) {
    return code == UNSUPPORTED ? "Not Supported" : code == NO_PERMISSION ? "Insufficient Permissions" : code == LOST ? "GPU is lost" : "Unknown Error";
}
int nvmlSystemGetDriverVersion(char *to, u n) { snprintf(to, n, "999.0"); return OK; }
int nvmlSystemGetNVMLVersion(char *to, u n) { snprintf(to, n, "12.999.0"); return OK; }
int nvmlSystemGetCudaDriverVersion(int *v) { *v = 12080; return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = 12080; return OK; }
int nvmlDeviceGetCount_v2(u *n) { *n = (u)c.devices; return OK; }
int nvmlDeviceGetHandleByIndex_v2(u i, H *h) {
    if (i >= (u)c.devices) return 2;
    if (is("permission") && i == 0) return NO_PERMISSION;
    *h = (H)(size_t)(i + 1);
    return OK;
}
int nvmlDeviceGetHandleByUUID(const char *s, H *h) {
    u device, instance;
    if (sscanf(s, "MIG-%u-%u", &device, &instance) == 2) {
        if (device >= (u)c.devices || item(c.migs, instance) < 0) return NOT_FOUND;
        *h = (H)(size_t)((device + 1) | ((instance + 1) << 16));
        return OK;
    }
    *h = (H)(size_t)(atoi(s + strlen(s) - 2) + 1); return OK; }
int nvmlDeviceGetMaxMigDeviceCount(H h, u *n) { (void)h; *n = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(H h, u k, H *to) {
    if (item(c.migs, k) < 0) return NOT_FOUND;
    *to = (H)(size_t)((index_of(h) + 1) | ((k + 1) << 16));
    return OK;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(H h, H *to) { *to = (H)(size_t)(index_of(h) + 1); return instance_of(h) ? OK : INVALID; }
typedef struct { u sm, copy, decoder, encoder, jpeg, ofa, gpu_slices, compute_slices; ull memory; } Attributes;
int nvmlDeviceGetAttributes_v2(H h, Attributes *a) {
    if (!instance_of(h)) return UNSUPPORTED;
    memset(a, 0, sizeof *a);
    a->gpu_slices = a->compute_slices = (u)item(c.migs, instance_of(h) - 1);
    a->memory = a->compute_slices * 10240ull;
    return OK;
}
int nvmlDeviceGetIndex(H h, u *i) { *i = index_of(h); return OK; }
int nvmlDeviceGetName(H h, char *to, u n) {
    const char *name = c.names[0] ? c.names : NULL;
    for (u k = index_of(h); k && name; k--) { name = strchr(name, ','); if (name) name++; }
    if (name) snprintf(to, n, "%.*s", (int)strcspn(name, ","), name); else snprintf(to, n, "Simulated GPU");
    return OK;
}
int nvmlDeviceGetMinorNumber(H h, u *k) { *k = index_of(h); return OK; }
int nvmlDeviceGetPersistenceMode(H h, int *on) { (void)h; *on = (int)c.persistence; return OK; }
typedef struct { char legacy[16]; u domain, bus, device, id, subsystem; char address[32]; } Pci;
int nvmlDeviceGetPciInfo_v3(H h, Pci *p) {
    memset(p, 0, sizeof *p);
    p->bus = index_of(h) + 1;
    snprintf(p->address, sizeof p->address, "00000000:%02X:00.0", p->bus);
    return OK;
}
int nvmlDeviceGetUUID(H h, char *to, u n) {
    if (instance_of(h)) { snprintf(to, n, "MIG-%u-%u", index_of(h), instance_of(h) - 1); return OK; }
    snprintf(to, n, "GPU-00000000-0000-0000-0000-0000000000%02u", index_of(h));
    return OK;
}
int nvmlDeviceGetSerial(H h, char *to, u n) { (void)h; snprintf(to, n, "0"); return OK; }
int nvmlDeviceGetArchitecture(H h, u *a) { (void)h; *a = is("nocounter") || is("nofields") ? 4 : 9; return OK; }
int nvmlDeviceGetTotalEnergyConsumption(H h, ull *mj) {
    int bad = counter_gate(h);
    if (bad) return bad;
    if (is("nocounter") || is("nofields")) return UNSUPPORTED;
    *mj = counter(h);
    return OK;
}
int nvmlDeviceGetPowerUsage(H h, u *mw) { int bad = gate(h); if (bad) return bad; *mw = power(h, c.window); return OK; }
static int setting(H h, double *knob, double value) {
    int bad = gate(h);
    if (bad) return bad;
    if (is("noset")) return NO_PERMISSION;
    usleep((useconds_t)(c.latency * 5e5));
    *knob = value;
    knobs[index_of(h)].sets++;
    usleep((useconds_t)(c.latency * 5e5));
    return OK;
}
int nvmlDeviceGetPowerManagementLimit(H h, u *v) { int bad = gate(h); if (bad) return bad; *v = (u)(knobs[index_of(h)].limit * 1e3 + 0.5); return OK; }
int nvmlDeviceGetEnforcedPowerLimit(H h, u *v) {
    int bad = nvmlDeviceGetPowerManagementLimit(h, v);
    if (!bad && c.enforced && *v > c.enforced * 1e3) *v = (u)(c.enforced * 1e3);
    return bad;
}
int nvmlDeviceGetPowerManagementDefaultLimit(H h, u *v) { (void)h; *v = (u)(c.limit * 1e3); return OK; }
int nvmlDeviceSetPowerManagementLimit(H h, u v) {
    double w = v * 1e-3;
    if (w < LOWEST || w > HIGHEST) return INVALID;
    w = w < c.clamp ? c.clamp : w;
    if (c.step > 0) w = floor(w / c.step + 1e-9) * c.step;
    return setting(h, &knobs[index_of(h)].limit, w);
}
int nvmlDeviceGetPowerManagementLimitConstraints(H h, u *a, u *b) { (void)h; *a = LOWEST * 1000; *b = HIGHEST * 1000; return OK; }
int nvmlDeviceSetGpuLockedClocks(H h, u lo, u hi) {
    if (lo > hi || hi > 1980) return INVALID;
    int bad = setting(h, &knobs[index_of(h)].core, hi);
    if (!bad) knobs[index_of(h)].core_low = lo;
    return bad;
}
int nvmlDeviceResetGpuLockedClocks(H h) {
    int bad = setting(h, &knobs[index_of(h)].core, 0);
    if (!bad) knobs[index_of(h)].core_low = 0;
    return bad;
}
// The clock that an idle device runs at: the least that its lock allows.
double fake_idle_clock(u device) { return knobs[device].core_low > 210 ? knobs[device].core_low : 210; }
int nvmlDeviceSetMemoryLockedClocks(H h, u lo, u hi) { return !c.memlock ? UNSUPPORTED : lo > hi || hi > 2619 ? INVALID : setting(h, &knobs[index_of(h)].memory, hi); }
int nvmlDeviceResetMemoryLockedClocks(H h) { return !c.memlock ? UNSUPPORTED : setting(h, &knobs[index_of(h)].memory, 0); }
int nvmlDeviceGetSupportedMemoryClocks(H h, u *n, u *mhz) {
    (void)h;
    if (*n < 2 || !mhz) { *n = 2; return TOO_SMALL; }
    *n = 2; mhz[0] = 2619; mhz[1] = 1593;
    return OK;
}
int nvmlDeviceGetSupportedGraphicsClocks(H h, u memory, u *n, u *mhz) {
    (void)h; (void)memory;
    if (*n < 119 || !mhz) { *n = 119; return TOO_SMALL; }
    *n = 119;
    for (u i = 0; i < 119; i++) mhz[i] = 1980 - 15 * i;
    return OK;
}
int nvmlDeviceGetMigMode(H h, u *now, u *later) { (void)h; *now = *later = (u)c.mig; return OK; }
int nvmlDeviceGetMemoryInfo(H h, ull *m) { (void)h; m[0] = 80ull << 30; m[1] = 79ull << 30; m[2] = 1ull << 30; return OK; }
int nvmlDeviceGetTemperature(H h, int sensor, u *t) { (void)h; (void)sensor; *t = 50; return OK; }
int nvmlDeviceGetUtilizationRates(H h, u *x) { (void)h; x[0] = 50; x[1] = 20; return OK; }
int nvmlDeviceGetComputeMode(H h, int *m) { (void)h; *m = 0; return OK; }
int nvmlDeviceGetClockInfo(H h, int kind, u *mhz) {
    double lock = kind == 2 ? knobs[index_of(h)].memory : knobs[index_of(h)].core;
    *mhz = lock ? (u)lock : kind == 2 ? 2619 : 1500;
    return gate(h);
}
int nvmlDeviceGetMaxClockInfo(H h, int kind, u *mhz) { (void)h; *mhz = kind == 2 ? 2619 : 1980; return OK; }
static int reasons(const char *call, ull *r) {
    if (strcmp(c.reasons, call)) return 13;  // the driver has no such call
    *r = 0x4;
    return OK;
}
int nvmlDeviceGetCurrentClocksEventReasons(H h, ull *r) { int bad = gate(h); return bad ? bad : reasons("event", r); }
int nvmlDeviceGetCurrentClocksThrottleReasons(H h, ull *r) { int bad = gate(h); return bad ? bad : reasons("throttle", r); }
int nvmlDeviceGetComputeRunningProcesses_v3(H h, u *n, void *p) { (void)h; (void)p; *n = 0; return OK; }
int nvmlDeviceGetGraphicsRunningProcesses_v3(H h, u *n, void *p) { (void)h; (void)p; *n = 0; return OK; }

typedef struct { u field, scope; long long stamp, latency; u type; int code; union { double d; u ui; ull l; } v; } Field;
int nvmlDeviceGetFieldValues(H h, int n, Field *f) {
    int bad = gate(h);
    if (bad) return bad;
    for (int i = 0; i < n; i++) {
        f[i].code = OK; f[i].v.l = 0; f[i].type = 1;
        if (f[i].scope == 1) {  // the module's: current limit, least, most, default, requested
            f[i].type = 1;
            double watts = f[i].field == 187 ? 300 : f[i].field == 188 ? 1000 : f[i].field == 189 ? c.module : knobs[index_of(h)].module;
            if (!c.module || f[i].field < 187 || f[i].field > 192) f[i].code = UNSUPPORTED;
            else f[i].v.ui = (u)(watts * 1e3);
            continue;
        }
        if (f[i].field == 251) {
            if (c.smoothing < 0) f[i].code = UNSUPPORTED;
            else f[i].v.ui = (u)knobs[index_of(h)].smoothing;
            continue;
        }
        f[i].stamp = (long long)(held(fake_now(), c.update) * 1e6);
        if (is("nofields")) f[i].code = UNSUPPORTED;
        else if (f[i].field == 185 || f[i].field == 186) f[i].v.ui = power(h, f[i].field == 185 ? 1.0 : c.window);
        else if (f[i].field == 83 && !is("nocounter")) { f[i].type = 3; f[i].v.l = counter(h); }
        else f[i].code = UNSUPPORTED;
    }
    return OK;
}

// Newer settings: the limit of a scope, profiles of workloads, and smoothing, as nvml.h describes them.
typedef struct { u version, scope, mw; } PowerValue;
int nvmlDeviceSetPowerManagementLimit_v2(H h, PowerValue *p) {
    if (p->version != 0x0200000C) return 25;
    if (p->scope == 0) return nvmlDeviceSetPowerManagementLimit(h, p->mw);
    if (p->scope != 1 || !c.module) return UNSUPPORTED;
    if (p->mw < 300000 || p->mw > 1000000) return INVALID;
    return setting(h, &knobs[index_of(h)].module, p->mw * 1e-3);
}
typedef struct { u words[8]; } Mask;
typedef struct { u version, id, priority; Mask conflicts; } Profile;
typedef struct { u version; Mask have; Profile profile[255]; } Profiles;
typedef struct { u version; Mask have, requested, enforced; } Current;
typedef struct { u version; Mask requested; } Requested;
typedef struct { u operation; Mask profiles; } Update;
static void bit(Mask *m, u k) { if (k < 256) m->words[k / 32] |= 1u << (k % 32); }
static int bit_of(const Mask *m) { for (u k = 0; k < 256; k++) if (m->words[k / 32] >> (k % 32) & 1) return (int)k; return -1; }
int nvmlDeviceWorkloadPowerProfileGetProfilesInfo(H h, Profiles *p) {
    (void)h;
    if (!c.profiles[0]) return UNSUPPORTED;
    memset(&p->have, 0, sizeof p->have);
    for (u k = 0; item(c.profiles, k) >= 0; k++) {
        u id = (u)item(c.profiles, k);
        bit(&p->have, id);
        p->profile[id].id = id; p->profile[id].priority = k;
    }
    return OK;
}
int nvmlDeviceWorkloadPowerProfileGetCurrentProfiles(H h, Current *p) {
    if (!c.profiles[0]) return UNSUPPORTED;
    memset(&p->have, 0, 3 * sizeof(Mask));
    for (u k = 0; item(c.profiles, k) >= 0; k++) bit(&p->have, (u)item(c.profiles, k));
    if (knobs[index_of(h)].profile > 0) { bit(&p->requested, (u)knobs[index_of(h)].profile - 1); p->enforced = p->requested; }
    return OK;
}
int nvmlDeviceWorkloadPowerProfileSetRequestedProfiles(H h, Requested *p) {
    if (!c.profiles[0]) return UNSUPPORTED;
    return setting(h, &knobs[index_of(h)].profile, bit_of(&p->requested) + 1);
}
int nvmlDeviceWorkloadPowerProfileClearRequestedProfiles(H h, Requested *p) {
    (void)p;
    return c.profiles[0] ? setting(h, &knobs[index_of(h)].profile, 0) : UNSUPPORTED;
}
int nvmlDeviceWorkloadPowerProfileUpdateProfiles_v1(H h, Update *p) {
    if (!c.profiles[0]) return UNSUPPORTED;
    if (p->operation == 2) return setting(h, &knobs[index_of(h)].profile, bit_of(&p->profiles) + 1);
    return setting(h, &knobs[index_of(h)].profile, 0);
}
typedef struct { u version, state; } Smoothing;
int nvmlDevicePowerSmoothingSetState(H h, Smoothing *p) {
    return c.smoothing < 0 ? UNSUPPORTED : setting(h, &knobs[index_of(h)].smoothing, p->state);
}
