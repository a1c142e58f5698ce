/* json.h - reading and writing JSON.  jansson enters here and nowhere else.
 * A struct json is borrowed from the document that holds it; only the root is freed. */
#ifndef DATA_JSON_H
#define DATA_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct json;           /* jansson's json_t behind a name of ours */

enum json_kind { JSON_KIND_NULL, JSON_KIND_BOOL, JSON_KIND_INT, JSON_KIND_REAL, JSON_KIND_STRING, JSON_KIND_ARRAY, JSON_KIND_OBJECT };

/* NULL: err_text() says what is wrong with "line L, column C".  NUL characters in strings are accepted;
 * not UTF-8, trailing bytes and a nesting over 2,048 are not. */
struct json *json_parse(const char *text, size_t len);
struct json *json_parse_line(const char *text, size_t len);        /* of a corpus: the message names the column only */
struct json *json_parse_file(const char *path);
void         json_free(struct json *root);

enum json_kind json_kind(const struct json *j);
const char    *json_kind_name(const struct json *j);       /* "a string", "null", ... for messages; j may be NULL: "nothing" */

const struct json *json_get(const struct json *object, const char *key);   /* NULL: no such key, or not an object */
const struct json *json_at(const struct json *array, size_t i);
size_t             json_len(const struct json *j);         /* elements of an array, keys of an object, else 0 */

/* Values; each returns false (and leaves *out alone) when j is NULL or of another kind.  A whole real (2.0) is an int too.
 * (json_string and json_real are names of jansson's own: ours must differ, or they would take their place at run time.) */
bool        json_int(const struct json *j, int64_t *out);
bool        json_number(const struct json *j, double *out);        /* an integer or a real */
bool        json_bool(const struct json *j, bool *out);
const char *json_text(const struct json *j, size_t *len);          /* of a string; NULL: not one; len may be NULL */

/* Steps through an object: for (void *it = json_first(o); it; it = json_next(o, it)) */
void              *json_first(const struct json *object);
void              *json_next(const struct json *object, void *it);
const char        *json_key(void *it);
const struct json *json_value(void *it);

/* Writing: appends text to a buf.  Strings that are not UTF-8 get U+FFFD for each bad byte sequence. */
void json_put_string(struct buf *b, const char *s, size_t len);    /* quoted and escaped */
void json_put_real(struct buf *b, double x);                       /* shortest text that reads back the same; null if not finite */
void json_put_float(struct buf *b, float x);                       /* the same for a float: half the digits */
void json_put_json(struct buf *b, const struct json *j);           /* compact */

/* True if the bytes are well-formed UTF-8 (RFC 3629); else *at is the offset of the first bad byte. */
bool utf8_valid(const char *s, size_t len, size_t *at);

#endif
