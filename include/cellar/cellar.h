/* cellar.h - everything of Cellar: the store and its checksums; the cache, pipeline and devices that it stands on. */
#ifndef CELLAR_CELLAR_H
#define CELLAR_CELLAR_H

#include <cellar/cache.h>
#include <cellar/device.h>
#include <cellar/error.h>
#include <cellar/pipeline.h>
#include <cellar/store.h>
#include <cellar/sums.h>

#endif
