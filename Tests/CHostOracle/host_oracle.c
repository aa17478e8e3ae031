#include "CHostOracle.h"
