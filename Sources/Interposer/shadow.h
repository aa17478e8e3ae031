// How a function of this library stands before the client's own of the same name.
#ifndef SHADOW_H
#define SHADOW_H

#include <dlfcn.h>
#include <string.h>

#define SHADOW __attribute__((visibility("default")))

/// `NEXT(type, name, parameters)`: the function that the shadow stands before, as `next`.
#define NEXT(type, name, parameters) \
    static type(*next) parameters; \
    if (next == NULL) { \
        void *found = dlsym(RTLD_NEXT, name); \
        memcpy(&next, &found, sizeof found); \
    }

#endif
