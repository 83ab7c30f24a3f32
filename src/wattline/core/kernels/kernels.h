/* What every kernel is written with: plain C11 over arrays that Python owns.
 *
 * A function marked KERNEL is one that Python calls; `prototypes.py` reads its parameters from here, by name:
 *
 *     const double *x    an array that is only read           i64 x_n, x_m, x_k    its length along axes 0, 1, 2
 *     double *x          an array that is written             double, i64, bool    scalars
 *     Live *x            a NamedTuple as the struct below     Random *x            a numpy.random.Generator
 *
 * A struct lists those fields of the NamedTuple of its name that C needs, in any order, with the same rules.
 * Arrays are contiguous, the last axis fastest. Sums are made in the order of the Python beside them, and compiled
 * without contraction, so that both give the same bits.
 */
#ifndef WATTLINE_KERNELS_H
#define WATTLINE_KERNELS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#define KERNEL __declspec(dllexport)
#else
#define KERNEL __attribute__((visibility("default")))
#endif

typedef int64_t i64;
typedef uint64_t u64;
typedef int32_t i32;
typedef uint32_t u32;
typedef int8_t i8;

/* numpy's bitgen_t: https://numpy.org/doc/stable/reference/random/extending.html */
typedef struct {
    void *state;
    u64 (*next_uint64)(void *);
    u32 (*next_uint32)(void *);
    double (*next_double)(void *);
    u64 (*next_raw)(void *);
} Random;

/* Uniform in [0, 1), as `Generator.random()`. */
static inline double draw(Random *random) { return random->next_double(random->state); }

static inline double least(double a, double b) { return b < a ? b : a; }
static inline double most(double a, double b) { return b > a ? b : a; }
static inline i64 lower(i64 a, i64 b) { return b < a ? b : a; }
static inline i64 higher(i64 a, i64 b) { return b > a ? b : a; }

/* Memory of `count` items, all bits zero; a machine that has none left ends here, saying so. */
static inline void *room_for(i64 count, size_t size) {
    void *found = calloc(count > 0 ? (size_t)count : 1, size);
    if (!found) {
        fprintf(stderr, "wattline: no memory for %lld items of %zu bytes\n", (long long)count, size);
        abort();
    }
    return found;
}
#define NEW(type, count) ((type *)room_for((count), sizeof(type)))

#endif
