/* shapes.h - shapes of published models, for random weights. */
#ifndef MODEL_SHAPES_H
#define MODEL_SHAPES_H

#include "model/config.h"

bool shape_find(struct model_config *c, const char *name);     /* false: no such name */
int  shape_unknown(const char *name);                          /* -1, with err_text() listing the names */

#endif
