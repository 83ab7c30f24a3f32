/* A binary heap of keys with values, least key first, in arrays that have room for one more. */
#ifndef WATTLINE_HEAP_H
#define WATTLINE_HEAP_H

#include "kernels.h"

static inline void push(i64 *keys, i64 *values, i64 size, i64 key, i64 value) {
    i64 i = size;
    while (i > 0) {
        i64 above = (i - 1) / 2;
        if (keys[above] <= key) break;
        keys[i] = keys[above];
        values[i] = values[above];
        i = above;
    }
    keys[i] = key;
    values[i] = value;
}

/* Remove the least key of a heap of `size`; read it before the call. */
static inline void pop(i64 *keys, i64 *values, i64 size) {
    i64 key = keys[size - 1], value = values[size - 1], i = 0;
    size--;
    for (;;) {
        i64 below = 2 * i + 1;
        if (below >= size) break;
        if (below + 1 < size && keys[below + 1] < keys[below]) below++;
        if (keys[below] >= key) break;
        keys[i] = keys[below];
        values[i] = values[below];
        i = below;
    }
    keys[i] = key;
    values[i] = value;
}

#endif
