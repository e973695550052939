/* 16 numbers between bfloat16 in memory and float32 in a register. For files that target AVX512. */

#include <immintrin.h>
#include <stdint.h>

static inline __m512 widen(const void *bfloat16) {
    __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(bfloat16));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

/* To the nearest; of two as near, the even one. */
static inline __m256i narrow(__m512 values) {
    __m512i bits = _mm512_castps_si512(values);
    __m512i is_odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    bits = _mm512_add_epi32(bits, _mm512_add_epi32(is_odd, _mm512_set1_epi32(0x7fff)));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
}
