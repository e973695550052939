/* One row of bfloat16 features times weights in 4 bits, for CPUs with AVX512-VNNI.

   torch's kernel widens every code to float32 and is bound by that; here the features are rounded
   to 8 bits in groups, so that one instruction multiplies 64 codes, and the product takes as long
   as its weights take to read. Nothing but drafts are computed with it: what it rounds away can
   never reach the text.

   Weights of 16 outputs are a tile: what one step of their scales and of their zeros is worth, 16
   numbers each in bfloat16, then blocks of 576 bytes for two groups of 32 inputs (`int4_dot.py` lays
   them out). Each group has 256 bytes of codes, four times 64 whose low halves are inputs 8 i to
   8 i + 3 of the 16 outputs and whose high halves are the next four; behind those of both are their
   scales, 16 and 16 in 8 bits, and their zeros. */

#include <stdint.h>

/* Of the layout and the arguments: `int4_dot.py` compares it with its own. */
int int4_dot_version(void) { return 3; }

int int4_dot_is_supported(void) {
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni")
#include "bfloat16.h"
#include "linear_parts.h"

enum { OUTPUTS = 16, GROUP = 32, CODE_BYTES = OUTPUTS * GROUP / 2 };
enum { UNIT_BYTES = 2 * OUTPUTS * 2, BLOCK = 2 * (CODE_BYTES + 2 * OUTPUTS) };

/* Of what is read: nearer and farther were slower. Into the second cache: with the first, a call
   that does not follow the one before it at once took a third more time. */
enum { AHEAD = 4 * BLOCK };

/* A group of features: 8-bit codes, what one step of them is worth, and their sum. */
typedef struct {
    int8_t codes[GROUP];
    int32_t sum_of_codes;
    float scale, sum;
} Features;

static void round_features(const uint16_t *row, int64_t num_groups, Features *features) {
    features[num_groups] = (Features){0}; /* the other half of a last block */
    for (int64_t g = 0; g < num_groups; g++) {
        __m512 low = widen(row + GROUP * g), high = widen(row + GROUP * g + 16);
        float largest =
            _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
        __m512 steps = _mm512_set1_ps(largest > 0 ? 127 / largest : 0);
        __m512i low_codes = _mm512_cvtps_epi32(_mm512_mul_ps(low, steps));
        __m512i high_codes = _mm512_cvtps_epi32(_mm512_mul_ps(high, steps));
        Features *group = features + g;
        _mm_storeu_si128((void *)group->codes, _mm512_cvtsepi32_epi8(low_codes));
        _mm_storeu_si128((void *)(group->codes + 16), _mm512_cvtsepi32_epi8(high_codes));
        group->sum_of_codes = _mm512_reduce_add_epi32(_mm512_add_epi32(low_codes, high_codes));
        group->scale = largest / 127;
        group->sum = _mm512_reduce_add_ps(_mm512_add_ps(low, high));
    }
}

static __m512 read_scales(const uint8_t *scales) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)scales)));
}

static __m512 read_zeros(const uint8_t *zeros) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)zeros)));
}

/* The sums of code * feature_code of a group, less 8 times that of feature_code. */
static __m512 sum_products(const uint8_t *lines, const Features *features) {
    const __m512i low_half = _mm512_set1_epi8(15);
    const int32_t *fours = (const int32_t *)features->codes;
    __m512i even = _mm512_set1_epi32(-8 * features->sum_of_codes);
    __m512i odd = _mm512_setzero_si512();
    for (int i = 0; i < 4; i++) {
        __m512i codes = _mm512_loadu_si512(lines + 64 * i);
        __m512i low = _mm512_and_si512(codes, low_half);
        __m512i high = _mm512_and_si512(_mm512_srli_epi16(codes, 4), low_half);
        even = _mm512_dpbusd_epi32(even, low, _mm512_set1_epi32(fours[2 * i]));
        odd = _mm512_dpbusd_epi32(odd, high, _mm512_set1_epi32(fours[2 * i + 1]));
    }
    return _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
}

/* weight = (code - 8) * scale + zero, so a group adds
   scale * feature_scale * (sum of code * feature_code - 8 * sum of feature_code) + zero * sum. */
static __m512 dot(const uint8_t *tile, const Features *features, int64_t num_blocks) {
    __m512 product = _mm512_setzero_ps(), offset = _mm512_setzero_ps();
    const uint8_t *block = tile + UNIT_BYTES;
    for (int64_t b = 0; b < num_blocks; b++, block += BLOCK) {
        for (int line = 0; line < BLOCK; line += 64)
            _mm_prefetch((const char *)block + AHEAD + line, _MM_HINT_T1);
        const uint8_t *scales = block + 2 * CODE_BYTES, *zeros = scales + 2 * OUTPUTS;
        for (int half = 0; half < 2; half++, features++) {
            __m512 sums = sum_products(block + half * CODE_BYTES, features);
            __m512 factors = _mm512_mul_ps(read_scales(scales + half * OUTPUTS),
                                           _mm512_set1_ps(features->scale));
            product = _mm512_fmadd_ps(sums, factors, product);
            offset = _mm512_fmadd_ps(read_zeros(zeros + half * OUTPUTS),
                                     _mm512_set1_ps(features->sum), offset);
        }
    }
    product = _mm512_mul_ps(product, widen(tile));
    return _mm512_fmadd_ps(offset, widen(tile + 2 * OUTPUTS), product);
}

/* 16 products, or those of them that there are. */
static void finish(__m512 values, const Part *part, int64_t first, uint16_t *products) {
    int64_t count = part->num_outputs - first;
    __mmask16 there = count < OUTPUTS ? (1 << count) - 1 : 0xffff;
    if (part->bias) {
        __m256i bias = _mm256_maskz_loadu_epi16(there, part->bias + first);
        values = _mm512_add_ps(values, widen(&bias));
    }
    _mm256_mask_storeu_epi16(products + first, there, narrow(values));
}

/* rows: [num_rows, num_inputs] */
void int4_dot(const uint16_t *rows, const Part *parts, int64_t num_parts, int64_t num_rows,
              int64_t num_inputs, int num_threads) {
    const int64_t num_groups = num_inputs / GROUP, num_blocks = (num_groups + 1) / 2;
    const int64_t num_tiles = count_all_blocks(parts, num_parts, OUTPUTS);
    Features room[num_groups + 1], *features = room;
    for (int64_t row = 0; row < num_rows; row++) {
        round_features(rows + row * num_inputs, num_groups, features);
#pragma omp parallel for schedule(static) num_threads(num_threads)
        for (int64_t i = 0; i < num_tiles; i++) {
            int64_t number = i;
            const Part *part = find_part(parts, OUTPUTS, &number);
            const uint8_t *tile = part->weights;
            tile += number * (UNIT_BYTES + num_blocks * BLOCK);
            finish(dot(tile, features, num_blocks), part, number * OUTPUTS,
                   part->products + row * part->num_outputs);
        }
    }
}
