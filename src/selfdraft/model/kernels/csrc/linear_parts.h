/* Linears that read the same features, computed in one call. `siblings.py` makes the array. */

#include <stdint.h>

typedef struct {
    const void *weights;
    const uint16_t *bias; /* [num_outputs] in bfloat16, or null */
    uint16_t *products;   /* [num_rows, num_outputs] in bfloat16 */
    int64_t num_outputs;
} Part;

static inline int64_t count_blocks(const Part *part, int64_t size) {
    return (part->num_outputs + size - 1) / size;
}

/* Blocks of `size` outputs, the last of a part with fewer. */
static inline int64_t count_all_blocks(const Part *parts, int64_t num_parts, int64_t size) {
    int64_t count = 0;
    for (int64_t i = 0; i < num_parts; i++) count += count_blocks(parts + i, size);
    return count;
}

/* The part that a block of all is of; `block` becomes its number there. */
static inline const Part *find_part(const Part *parts, int64_t size, int64_t *block) {
    for (; *block >= count_blocks(parts, size); parts++) *block -= count_blocks(parts, size);
    return parts;
}
