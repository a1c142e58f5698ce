/* hash.h - xxHash enters here and nowhere else. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const void *p, size_t len, uint64_t seed);     /* XXH3, 64 bit */

#endif
