// A simulated libnvidia-ml.so.1 that answers like NVML with a known true power.
//
// It reads one text file, named by FAKENVML (key=value lines), when NVML is initialised:
//   devices=N            how many                              limit=W       power limit (default 700)
//   wave=constant|square|ramp|bursts|noise                     hi=W lo=W     levels (default 700, 100)
//   period=s duty=share  of the square, ramp and bursts        phase=s       shift of device i: i * phase
//   counter=s            update period of the energy counter   window=s update=s  power sensor: mean over window, each update
//   mig=1                MIG mode on                           clock=PATH    virtual time: a file holding one double, mapped
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
    char wave[16], fault[16], clock[512], state[512];
} c;
// What is set on a device: the limit in W, locked clocks in MHz (0: none), and how often anything was set.
typedef struct { double limit, core, memory, sets; } Knobs;
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
    for (u i = 0; i < MOST; i++) if (knobs[i].limit == 0) knobs[i].limit = c.found ? c.found : c.limit;
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

static u index_of(H h) { return (u)(size_t)h - 1; }
static int is(const char *fault) { return !strcmp(c.fault, fault); }
static int gate(H h) {
    if (is("slow")) usleep((useconds_t)(c.slow * 1e6));
    if (is("lost") && index_of(h) == 0 && fake_now() >= c.at) return LOST;
    return OK;
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
int nvmlDeviceGetHandleByUUID(const char *s, H *h) { *h = (H)(size_t)(atoi(s + strlen(s) - 2) + 1); return OK; }
int nvmlDeviceGetIndex(H h, u *i) { *i = index_of(h); return OK; }
int nvmlDeviceGetName(H h, char *to, u n) { (void)h; snprintf(to, n, "Simulated GPU"); return OK; }
int nvmlDeviceGetUUID(H h, char *to, u n) { snprintf(to, n, "GPU-00000000-0000-0000-0000-0000000000%02u", index_of(h)); return OK; }
int nvmlDeviceGetSerial(H h, char *to, u n) { (void)h; snprintf(to, n, "0"); return OK; }
int nvmlDeviceGetArchitecture(H h, u *a) { (void)h; *a = is("nocounter") || is("nofields") ? 4 : 9; return OK; }
int nvmlDeviceGetTotalEnergyConsumption(H h, ull *mj) {
    int bad = gate(h);
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
    return setting(h, &knobs[index_of(h)].limit, w < c.clamp ? c.clamp : w);
}
int nvmlDeviceGetPowerManagementLimitConstraints(H h, u *a, u *b) { (void)h; *a = LOWEST * 1000; *b = HIGHEST * 1000; return OK; }
int nvmlDeviceSetGpuLockedClocks(H h, u lo, u hi) { return lo > hi || hi > 1980 ? INVALID : setting(h, &knobs[index_of(h)].core, hi); }
int nvmlDeviceResetGpuLockedClocks(H h) { return setting(h, &knobs[index_of(h)].core, 0); }
int nvmlDeviceSetMemoryLockedClocks(H h, u lo, u hi) { return lo > hi || hi > 2619 ? INVALID : setting(h, &knobs[index_of(h)].memory, hi); }
int nvmlDeviceResetMemoryLockedClocks(H h) { return setting(h, &knobs[index_of(h)].memory, 0); }
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
int nvmlDeviceGetCurrentClocksThrottleReasons(H h, ull *r) { (void)h; *r = 0x4; return OK; }
int nvmlDeviceGetComputeRunningProcesses_v3(H h, u *n, void *p) { (void)h; (void)p; *n = 0; return OK; }
int nvmlDeviceGetGraphicsRunningProcesses_v3(H h, u *n, void *p) { (void)h; (void)p; *n = 0; return OK; }

typedef struct { u field, scope; long long stamp, latency; u type; int code; union { double d; u ui; ull l; } v; } Field;
int nvmlDeviceGetFieldValues(H h, int n, Field *f) {
    int bad = gate(h);
    if (bad) return bad;
    for (int i = 0; i < n; i++) {
        f[i].code = OK; f[i].v.l = 0; f[i].type = 1;
        f[i].stamp = (long long)(held(fake_now(), c.update) * 1e6);
        if (is("nofields")) f[i].code = UNSUPPORTED;
        else if (f[i].field == 185 || f[i].field == 186) f[i].v.ui = power(h, f[i].field == 185 ? 1.0 : c.window);
        else if (f[i].field == 83 && !is("nocounter")) { f[i].type = 3; f[i].v.l = counter(h); }
        else f[i].code = UNSUPPORTED;
    }
    return OK;
}
