/* Runs one Lua program on the interpreter it is linked with. Compiles with every Lua from 5.1 on. */
#include <stdio.h>

#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"

static const char program[] =
    "local sum, composite = 0, {}\n"
    "for n = 2, 9999 do\n"
    "  if not composite[n] then\n"
    "    sum = sum + n\n"
    "    for m = n * n, 9999, n do composite[m] = true end\n"
    "  end\n"
    "end\n"
    "print(string.format('%s: the primes below 10000 add up to %d', _VERSION, sum))\n";

int main(void) {
    lua_State *lua = luaL_newstate();
    if (lua == NULL) {
        return 1;
    }
    luaL_openlibs(lua);
    if (luaL_loadstring(lua, program) != 0 || lua_pcall(lua, 0, 0, 0) != 0) {
        fprintf(stderr, "%s\n", lua_tostring(lua, -1));
        return 1;
    }
    lua_close(lua);
    return 0;
}
