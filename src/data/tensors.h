/* tensors.h - named tensors in safetensors files: one file, or a folder with model.safetensors or a sharded
 * model.safetensors.index.json.  Files are mapped, not read: a tensor's bytes come into memory when they are touched.
 * Files are untrusted: header, offsets, sizes, gaps and overlaps are checked at opening.
 * Format: github.com/huggingface/safetensors, README.md, "Format". */
#ifndef DATA_TENSORS_H
#define DATA_TENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/num.h"

#define TENSOR_MAX_DIM 8

struct tensor_info {
    const char *name;
    const char *type;          /* as the file calls it: "F32", "BF16", "F64", ...; not read when writing */
    bool is_float;             /* f32, bf16 or f16: `dtype` says which; of the others only size and place are known */
    enum dtype dtype;
    int n_dim;
    uint64_t dim[TENSOR_MAX_DIM];
    const void *data;          /* row-major, little-endian, in the mapped file; not always aligned to its type */
    size_t size;               /* bytes; not read when writing */
};

struct tensors;

struct tensors *tensors_open(const char *path);            /* NULL: err_text() */
void            tensors_close(struct tensors *t);
size_t          tensors_count(const struct tensors *t);
uint64_t        tensors_file_bytes(const struct tensors *t);       /* of all files together */
const struct tensor_info *tensors_at(const struct tensors *t, size_t i);
const struct tensor_info *tensors_find(const struct tensors *t, const char *name);     /* NULL: not there */
/* Tells the system that the tensor's pages are not needed any more (after they were packed for a device). */
void            tensors_release(struct tensors *t, const struct tensor_info *info);
void            tensors_shape_text(char *text, size_t size, const struct tensor_info *info);   /* "[172, 64]" */

/* Writing one safetensors file: all names and shapes first (f32, bf16, f16), then the data of each in the same order. */
struct tensors_writer;
struct tensors_writer *tensors_writer_open(const char *path, const struct tensor_info *infos, size_t n);   /* data not read */
int                    tensors_writer_put(struct tensors_writer *w, const void *data, size_t size);        /* may come in pieces */
/* Frees in every case.  -1: err_text(), also if less was put than the shapes announce. */
int                    tensors_writer_close(struct tensors_writer *w);

#endif
