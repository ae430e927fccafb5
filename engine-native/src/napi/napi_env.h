// The one way to include napi.h: all of the addon must see the same settings.
//
// A worker thread may be terminated at any moment; from then on every call into JavaScript fails, and so does throwing
// about it, which node-addon-api would take for a fatal error of the process.
#pragma once

#ifndef NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
#define NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
#endif

#include <napi.h>
