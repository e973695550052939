/* Rows of bfloat16, each divided by its root mean square and multiplied by a weight. */

#include <math.h>
#include <stdint.h>

/* Of the arguments: `rms_norm.py` compares it with its own. */
int rms_norm_version(void) { return 1; }

int rms_norm_is_supported(void) {
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

#pragma GCC target("avx512f,avx512bw,avx512vl")
#include "bfloat16.h"

enum { LANES = 16 };

static float mean_square(const uint16_t *row, int64_t width) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < width; i += LANES) {
        __m512 values = widen(row + i);
        sum = _mm512_fmadd_ps(values, values, sum);
    }
    return _mm512_reduce_add_ps(sum) / width;
}

/* Rounded before the weight and after it, as Llama does and those that learned from it. */
static void scale_row(const uint16_t *row, const uint16_t *weight, uint16_t *product, int64_t width,
                      __m512 factor) {
    for (int64_t i = 0; i < width; i += LANES) {
        __m256i scaled = narrow(_mm512_mul_ps(widen(row + i), factor));
        __m512 weighted = _mm512_mul_ps(widen(&scaled), widen(weight + i));
        _mm256_storeu_si256((void *)(product + i), narrow(weighted));
    }
}

/* rows, products: [num_rows, width]; weight: [width], a multiple of 16. */
void rms_norm(const uint16_t *rows, const uint16_t *weight, uint16_t *products, int64_t num_rows,
              int64_t width, float epsilon) {
    for (int64_t row = 0; row < num_rows; row++) {
        const uint16_t *values = rows + row * width;
        float factor = 1 / sqrtf(mean_square(values, width) + epsilon);
        scale_row(values, weight, products + row * width, width, _mm512_set1_ps(factor));
    }
}
