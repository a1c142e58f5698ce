#define _DEFAULT_SOURCE     /* madvise */
#include "data/tensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"
#include "data/json.h"

#define PREFIX 8                            /* bytes of the header's length */
#define MAX_HEADER ((uint64_t)100000000)    /* the reference implementation's limit */

struct mapped { const char *path; const unsigned char *bytes; size_t size; };

struct tensors {
    struct mapped *files; size_t n_file;
    struct tensor_info *infos; size_t n, cap;
    struct map names;                       /* -> index into infos */
    struct arena arena;
};

static const struct type { const char *name; unsigned bits; bool is_float; enum dtype dtype; } types[] = {
    { "F32", 32, true, DTYPE_F32 }, { "BF16", 16, true, DTYPE_BF16 }, { "F16", 16, true, DTYPE_F16 },
    { "BOOL", 8, false, 0 }, { "U8", 8, false, 0 }, { "I8", 8, false, 0 }, { "U16", 16, false, 0 }, { "I16", 16, false, 0 },
    { "U32", 32, false, 0 }, { "I32", 32, false, 0 }, { "U64", 64, false, 0 }, { "I64", 64, false, 0 }, { "F64", 64, false, 0 },
    { "C64", 64, false, 0 }, { "F8_E4M3", 8, false, 0 }, { "F8_E5M2", 8, false, 0 }, { "F8_E8M0", 8, false, 0 },
    { "F8_E4M3FNUZ", 8, false, 0 }, { "F8_E5M2FNUZ", 8, false, 0 },
    { "F4", 4, false, 0 }, { "F6_E2M3", 6, false, 0 }, { "F6_E3M2", 6, false, 0 },
};

static const struct type *type_find(const char *name)
{
    for (size_t i = 0; name && i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, name) == 0)
            return &types[i];
    return NULL;
}

/* ---- one file ------------------------------------------------------------------------------------------------- */

static int file_map(struct mapped *f, const char *path)
{
    *f = (struct mapped){ .path = path };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set("%s: cannot be opened: %s", path, strerror(errno));
    struct stat st;
    int bad = 0;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        bad = err_set("%s: not a regular file", path);
    } else if (st.st_size < PREFIX) {
        bad = err_set("%s: %lld bytes are too short for a safetensors file", path, (long long)st.st_size);
    } else {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            bad = err_set("%s: cannot be mapped: %s", path, strerror(errno));
        else
            f->bytes = p, f->size = (size_t)st.st_size;
    }
    close(fd);
    return bad;
}

static uint64_t read_u64(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/* Shape and size in bits; false if it is not a list of whole numbers or a product leaves 64 bits. */
static bool read_shape(const struct json *shape, struct tensor_info *info, unsigned type_bits, uint64_t *bits)
{
    if (!shape || json_kind(shape) != JSON_KIND_ARRAY || json_len(shape) > TENSOR_MAX_DIM)
        return false;
    *bits = type_bits;
    for (info->n_dim = 0; (size_t)info->n_dim < json_len(shape); info->n_dim++) {
        int64_t dim;
        if (!json_int(json_at(shape, (size_t)info->n_dim), &dim) || dim < 0 || __builtin_mul_overflow(*bits, (uint64_t)dim, bits))
            return false;
        info->dim[info->n_dim] = (uint64_t)dim;
    }
    return true;
}

/* One entry of the header.  The bytes are checked to lie in the file's data part and to be as many as the shape says. */
static int read_entry(struct tensor_info *info, const struct json *entry, const struct mapped *f, size_t data_at)
{
    const struct json *offsets = json_get(entry, "data_offsets");
    const char *type_name = json_text(json_get(entry, "dtype"), NULL);
    const struct type *type = type_find(type_name);
    if (!type)
        return err_set("%s: tensor \"%s\" has the unknown dtype \"%.20s\"", f->path, info->name, type_name ? type_name : "");
    info->type = type->name, info->is_float = type->is_float, info->dtype = type->dtype;
    uint64_t bits;
    int64_t begin, end;
    if (!read_shape(json_get(entry, "shape"), info, type->bits, &bits))
        return err_set("%s: tensor \"%s\" has a bad shape; up to %d whole numbers are expected", f->path, info->name, TENSOR_MAX_DIM);
    if (json_len(offsets) != 2 || !json_int(json_at(offsets, 0), &begin) || !json_int(json_at(offsets, 1), &end))
        return err_set("%s: tensor \"%s\" has no data_offsets of two whole numbers", f->path, info->name);
    if (begin < 0 || end < begin || (uint64_t)end > f->size - data_at)
        return err_set("%s: tensor \"%s\" has data_offsets %lld to %lld, outside the %zu bytes of data; is the file cut off?",
                       f->path, info->name, (long long)begin, (long long)end, f->size - data_at);
    if (bits % 8 || (uint64_t)(end - begin) != bits / 8)
        return err_set("%s: tensor \"%s\" takes %lld bytes, its shape and dtype say %llu", f->path, info->name,
                       (long long)(end - begin), (unsigned long long)(bits / 8));
    info->data = f->bytes + data_at + begin;
    info->size = (size_t)(end - begin);
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct tensor_info *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return x->size < y->size ? -1 : x->size > y->size;      /* empty ones first, they end where they begin */
}

/* The tensors must fill the data part exactly, in some order: no overlap (one byte read as two things) and no gap
 * (bytes that hide something), as in the reference implementation. */
static int check_cover(struct tensors *t, size_t first, const struct mapped *f, size_t data_at)
{
    if (t->n > first)                                   /* else infos may be NULL */
        qsort(t->infos + first, t->n - first, sizeof *t->infos, by_place);
    const unsigned char *at = f->bytes + data_at;
    for (size_t i = first; i < t->n; i++) {
        const struct tensor_info *info = &t->infos[i];
        if (info->data != at)
            return err_set("%s: the data of tensor \"%s\" %s", f->path, info->name,
                           (const unsigned char *)info->data < at ? "overlaps the tensor before it" : "begins after a gap");
        at += info->size;
    }
    if (at != f->bytes + f->size)
        return err_set("%s: %zu bytes after the last tensor belong to none", f->path, (size_t)(f->bytes + f->size - at));
    return 0;
}

static struct tensor_info *info_new(struct tensors *t)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 256;
        t->infos = mem_resize(t->infos, t->cap, sizeof *t->infos);
    }
    t->infos[t->n] = (struct tensor_info){0};
    return &t->infos[t->n++];
}

static int read_entries(struct tensors *t, const struct json *header, const struct mapped *f, size_t data_at)
{
    size_t first = t->n;
    for (void *it = json_first(header); it; it = json_next(header, it)) {
        const char *name = json_key(it);
        if (strcmp(name, "__metadata__") == 0)
            continue;
        struct tensor_info *info = info_new(t);
        info->name = arena_dup(&t->arena, name, strlen(name));
        if (read_entry(info, json_value(it), f, data_at) != 0)
            return -1;
    }
    return check_cover(t, first, f, data_at);
}

/* Adds all tensors of the file to t->infos. */
static int read_file(struct tensors *t, const struct mapped *f)
{
    uint64_t len = read_u64(f->bytes);
    if (len > MAX_HEADER || len > f->size - PREFIX)
        return err_set("%s: not a safetensors file: its header of %llu bytes is longer than the %s", f->path,
                       (unsigned long long)len, len > MAX_HEADER ? "format allows" : "file");
    struct json *header = json_parse((const char *)f->bytes + PREFIX, (size_t)len);
    if (!header)
        return err_wrap("%s: header", f->path);
    int bad;
    if (json_kind(header) == JSON_KIND_OBJECT)
        bad = read_entries(t, header, f, PREFIX + (size_t)len);
    else
        bad = err_set("%s: the header is %s; an object is expected", f->path, json_kind_name(header));
    json_free(header);
    return bad;
}

static int add_file(struct tensors *t, const char *path)
{
    t->files = mem_resize(t->files, t->n_file + 1, sizeof *t->files);
    struct mapped *f = &t->files[t->n_file++];
    return file_map(f, path) != 0 ? -1 : read_file(t, f);
}

/* ---- a folder ------------------------------------------------------------------------------------------------- */

static bool plain_name(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, "..") != 0 && strcmp(name, ".") != 0;
}

static const char *path_in(struct tensors *t, const char *folder, const char *name)
{
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = arena_alloc(&t->arena, size);
    snprintf(path, size, "%s/%s", folder, name);
    return path;
}

/* Opens a shard; of its tensors those stay that the index puts there. */
static int add_shard(struct tensors *t, const char *folder, const char *shard, const struct json *weight_map)
{
    size_t first = t->n;
    if (add_file(t, path_in(t, folder, shard)) != 0)
        return -1;
    size_t kept = first;
    for (size_t i = first; i < t->n; i++) {
        const char *home = json_text(json_get(weight_map, t->infos[i].name), NULL);
        if (home && strcmp(home, shard) == 0)
            t->infos[kept++] = t->infos[i];
    }
    t->n = kept;
    return 0;
}

static int add_shards(struct tensors *t, const char *folder, const char *index_path, const struct json *weight_map)
{
    struct map seen = {0};
    int bad = 0;
    for (void *it = json_first(weight_map); it && !bad; it = json_next(weight_map, it)) {
        const char *shard = json_text(json_value(it), NULL);
        if (!shard || !plain_name(shard))
            bad = err_set("%s: tensor \"%s\" is in \"%.100s\"; a file name in the same folder is expected", index_path, json_key(it), shard ? shard : "");
        else if (map_put(&seen, shard, strlen(shard), 0))
            bad = add_shard(t, folder, shard, weight_map);
    }
    map_free(&seen);
    return bad;
}

static int check_complete(const struct tensors *t, const char *index_path, const struct json *weight_map)
{
    for (void *it = json_first(weight_map); it; it = json_next(weight_map, it))
        if (!tensors_find(t, json_key(it)))
            return err_set("%s: tensor \"%s\" is not in \"%s\"", index_path, json_key(it), json_text(json_value(it), NULL));
    return 0;
}

static int index_names(struct tensors *t)
{
    for (size_t i = 0; i < t->n; i++)
        if (!map_put(&t->names, t->infos[i].name, strlen(t->infos[i].name), (uint32_t)i))
            return err_set("tensor \"%s\" is there twice", t->infos[i].name);
    return 0;
}

static int add_indexed(struct tensors *t, const char *folder, const char *index_path)
{
    struct json *index = json_parse_file(index_path);
    if (!index)
        return -1;
    const struct json *weight_map = json_get(index, "weight_map");
    int bad;
    if (!weight_map || json_kind(weight_map) != JSON_KIND_OBJECT || !json_len(weight_map))
        bad = err_set("%s: weight_map is %s; an object is expected", index_path, json_kind_name(weight_map));
    else if ((bad = add_shards(t, folder, index_path, weight_map)) == 0 && (bad = index_names(t)) == 0)
        bad = check_complete(t, index_path, weight_map);
    json_free(index);
    return bad;
}

static int add_folder(struct tensors *t, const char *folder)
{
    const char *one = path_in(t, folder, "model.safetensors"), *index = path_in(t, folder, "model.safetensors.index.json");
    if (access(one, F_OK) == 0)
        return add_file(t, one) != 0 ? -1 : index_names(t);
    if (access(index, F_OK) == 0)
        return add_indexed(t, folder, index);
    return err_set("%s: no model.safetensors and no model.safetensors.index.json in this folder", folder);
}

struct tensors *tensors_open(const char *path)
{
    struct tensors *t = mem_alloc(sizeof *t);
    struct stat st;
    int bad;
    if (stat(path, &st) != 0)
        bad = err_set("%s: cannot be opened: %s", path, strerror(errno));
    else if (S_ISDIR(st.st_mode))
        bad = add_folder(t, path);
    else if ((bad = add_file(t, arena_dup(&t->arena, path, strlen(path)))) == 0)
        bad = index_names(t);
    if (!bad)
        return t;
    tensors_close(t);
    return NULL;
}

void tensors_close(struct tensors *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n_file; i++)
        if (t->files[i].bytes)
            munmap((void *)t->files[i].bytes, t->files[i].size);
    free(t->files);
    free(t->infos);
    map_free(&t->names);
    arena_free(&t->arena);
    free(t);
}

size_t tensors_count(const struct tensors *t)
{
    return t->n;
}

uint64_t tensors_file_bytes(const struct tensors *t)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < t->n_file; i++)
        sum += t->files[i].size;
    return sum;
}

const struct tensor_info *tensors_at(const struct tensors *t, size_t i)
{
    return &t->infos[i];
}

const struct tensor_info *tensors_find(const struct tensors *t, const char *name)
{
    uint32_t i;
    return map_get(&t->names, name, strlen(name), &i) ? &t->infos[i] : NULL;
}

void tensors_release(struct tensors *t, const struct tensor_info *info)
{
    (void)t;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)info->data & ~(page - 1);
    if (info->size)             /* a neighbour's bytes in the same page are read again from the file if they are needed */
        madvise((void *)begin, (uintptr_t)info->data + info->size - begin, MADV_DONTNEED);
}

void tensors_shape_text(char *text, size_t size, const struct tensor_info *info)
{
    size_t n = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < info->n_dim && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%llu", i ? ", " : "", (unsigned long long)info->dim[i]);
    if (n < size)
        snprintf(text + n, size - n, "]");
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

struct tensors_writer { FILE *file; char *path; uint64_t left; };

static void put_header(struct buf *b, const struct tensor_info *infos, size_t n, uint64_t *data_size)
{
    static const char *const names[] = { [DTYPE_F32] = "F32", [DTYPE_BF16] = "BF16", [DTYPE_F16] = "F16" };
    uint64_t at = 0;
    buf_puts(b, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < n; i++) {
        CHECK(infos[i].is_float);
        uint64_t size = dtype_size(infos[i].dtype);
        buf_putc(b, ',');
        json_put_string(b, infos[i].name, strlen(infos[i].name));
        buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", names[infos[i].dtype]);
        for (int d = 0; d < infos[i].n_dim; d++) {
            buf_printf(b, "%s%llu", d ? "," : "", (unsigned long long)infos[i].dim[d]);
            size *= infos[i].dim[d];
        }
        buf_printf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)(at + size));
        at += size;
    }
    buf_putc(b, '}');
    while (b->len % 8)          /* so that the data is aligned in the file */
        buf_putc(b, ' ');
    *data_size = at;
}

struct tensors_writer *tensors_writer_open(const char *path, const struct tensor_info *infos, size_t n)
{
    FILE *file = fopen(path, "wbe");
    if (!file) {
        err_set("%s: cannot be written: %s", path, strerror(errno));
        return NULL;
    }
    struct tensors_writer *w = mem_alloc(sizeof *w);
    struct buf header = {0};
    *w = (struct tensors_writer){ .file = file, .path = mem_dup(path, strlen(path)) };
    put_header(&header, infos, n, &w->left);
    unsigned char prefix[PREFIX];
    for (int i = 0; i < PREFIX; i++)
        prefix[i] = (unsigned char)((uint64_t)header.len >> 8 * i);
    fwrite(prefix, 1, sizeof prefix, file);             /* errors stick to the FILE and are seen at closing */
    fwrite(header.data, 1, header.len, file);
    buf_free(&header);
    return w;
}

int tensors_writer_put(struct tensors_writer *w, const void *data, size_t size)
{
    CHECK(size <= w->left);
    w->left -= size;
    return fwrite(data, 1, size, w->file) == size ? 0 : err_set("%s: cannot be written: %s", w->path, strerror(errno));
}

int tensors_writer_close(struct tensors_writer *w)
{
    int failed = ferror(w->file);
    failed |= fclose(w->file);
    int bad = 0;
    if (failed)
        bad = err_set("%s: cannot be written: %s", w->path, strerror(errno));
    else if (w->left)
        bad = err_set("%s: %llu bytes of tensor data are missing", w->path, (unsigned long long)w->left);
    free(w->path);
    free(w);
    return bad;
}
