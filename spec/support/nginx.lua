-- SPDX-License-Identifier: MIT
-- A real nginx with its Lua module, as tools/nginx.sh unpacks it, in a private directory, at a unix socket. It ends
-- when it is stopped, and with the process that started it. Coroutines of this process send requests.

local assert = require "luassert"
local lua_version = require "redio.base.lua_version"
local redio = require "redio"
local uv = require "luv"
local check = require "spec.support.check"
local server = require "spec.support.server"
local task = require "redio.task"

local M = {}

local Nginx = {}
Nginx.__index = Nginx

local HERE = uv.cwd()
local PACKAGES = HERE .. "/build/nginx"

local available, reason

--- True if there is one. The first call fetches and builds it.
---@return boolean
---@return string? reason
function M.available()
  if available == nil then
    -- (Not with what this process itself was built with or runs under, as sanitizers.)
    local pipe = io.popen("env -u LUA_PATH -u LUA_CPATH -u MAKEFLAGS -u CFLAGS -u CPPFLAGS -u LDFLAGS -u LD_PRELOAD "
      .. "tools/nginx.sh 2>&1; echo $?")
    local output, status = pipe:read("*a"):match "^(.-)(%d+)\n$"
    pipe:close()
    available, reason = status == "0", output:gsub("%s+$", ""):match "[^\n]*$"
  end
  return available, reason
end

--- Why the specs of nginx are pending; nil where it is there.
---@return string?
function M.missing()
  local is_there, why = M.available()
  return not is_there and "there is no nginx: " .. why or nil
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read "*a" or ""
  if file then file:close() end
  return text
end

-- The module "shared", which every program of a location loads first: clients by name, made once per worker.
local SHARED = [[
local lua_version = require "redio.base.lua_version"
local redio = require "redio"
local clients = {}
return function(name, ...)
  clients[name] = clients[name] or redio.Redis(...)
  return clients[name]
end
]]
local PRELUDE = 'local redio, shared = require "redio", require "shared" '

-- The directives of one location: a program for its content, or {phase = program}.
local function location(self, path, programs)
  if type(programs) == "string" then programs = { content = programs } end
  local lines = { ("location = %s {"):format(path) }
  for phase, program in pairs(programs) do
    if phase == "file" then
      lines[#lines + 1] = ("content_by_lua_file %s/%s;"):format(HERE, program)
    elseif phase == "directives" then
      lines[#lines + 1] = program
    else
      self._files = self._files + 1
      local file = ("%s/%d.lua"):format(self.dir, self._files)
      local is_whole = phase == "whole"
      if is_whole then phase = "content" end
      write(file, (is_whole and "" or PRELUDE) .. program)
      lines[#lines + 1] = ("%s_by_lua_file %s;"):format(phase, file)
    end
  end
  lines[#lines + 1] = "}"
  return table.concat(lines, "\n")
end

-- Where this machine has the modules of other packages for LuaJIT.
local function other_modules()
  local pipe = io.popen "ls -d /usr/lib/*/lua/5.1 /usr/local/lib/lua/5.1 2>/dev/null"
  local list = ""
  for dir in pipe:lines() do
    list = list .. dir .. "/?.so;"
  end
  pipe:close()
  return list
end

-- The directives of every configuration: outside of all blocks, and within http.
local MAIN = [[
daemon off;
master_process off;
pid %(dir)/nginx.pid;
error_log %(dir)/error.log %(level);
load_module %(root)/usr/lib/nginx/modules/ndk_http_module.so;
load_module %(root)/usr/lib/nginx/modules/ngx_http_lua_module.so;
]]
local HTTP = [[
  access_log off;
  client_body_temp_path %(dir)/body;
  proxy_temp_path %(dir)/proxy;
  fastcgi_temp_path %(dir)/fastcgi;
  uwsgi_temp_path %(dir)/uwsgi;
  scgi_temp_path %(dir)/scgi;
]]

local CONFIGURATION = MAIN .. [[
worker_processes 1;
env REDIS_URL;
events { worker_connections 1024; }
http {
]] .. HTTP .. [[
  lua_package_path "%(here)/lua/?.lua;%(here)/lua/?/init.lua;%(dir)/?.lua;%(root)/usr/share/lua/5.1/?.lua;;";
  lua_package_cpath "%(packages)/?.so;%(modules);";
  %(http)
  server {
    listen unix:%(dir)/http.sock;
    keepalive_requests 1000000;
    %(server)
    %(locations)
  }
}
]]

-- A whole nginx.conf, made to listen at the unix socket. It finds in `prefix` what an nginx with a LuaJIT of its own
-- finds in that LuaJIT's directory.
local function whole_configuration(text, prefix)
  local lua, c = prefix .. "/share/lua/5.1/", ('lua_package_cpath "%s/lib/lua/5.1/?.so;;";\n'):format(prefix)
  text = text:gsub("\nhttp {\n", function(line)
    return line .. HTTP .. c
  end)
  text = text:gsub('(lua_package_path "[^"]-;);";', function(path)
    return path .. lua .. "?.lua;" .. lua .. '?/init.lua;%(root)/usr/share/lua/5.1/?.lua;;";'
  end)
  return MAIN .. text:gsub("listen %d+;", "listen unix:%%(dir)/http.sock;")
end

local function configuration(self, options)
  local locations = {}
  for path, programs in pairs(options.locations or {}) do
    locations[#locations + 1] = location(self, path, programs)
  end
  local values = {
    dir = self.dir, here = HERE, root = PACKAGES .. "/root", packages = PACKAGES, modules = other_modules(),
    level = options.level or "notice",
    http = options.http or "init_by_lua_block { require 'redio' }", server = options.server or "",
    locations = table.concat(locations, "\n"),
  }
  local text = options.conf and whole_configuration(options.conf, options.prefix) or CONFIGURATION
  return (text:gsub("%%%((%w+)%)", values))
end

--- Starts one, and returns when it listens.
---@param options table locations = {[path] = program or {phase = program, whole = program without a prelude, file =
--- path, directives = text}};
--- http, server: more directives (http: in the place of loading redio at the start); env: REDIS_URL; level: of its
--- log. Or conf = a whole nginx.conf, prefix = where redio was installed
function M.start(options)
  local self = setmetatable({ dir = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/redio-XXXXXX")), _files = 0 }, Nginx)
  self.path = self.dir .. "/http.sock"
  write(self.dir .. "/shared.lua", SHARED)
  write(self.dir .. "/nginx.conf", configuration(self, options))
  local command = "REDIS_URL='%s' exec sh spec/support/run_until_eof.sh '%s' env -u LD_PRELOAD LD_LIBRARY_PATH='%s' "
    .. "'%s/root/usr/sbin/nginx' -p '%s' -e '%s/error.log' -c '%s/nginx.conf'"
  local libraries = read(PACKAGES .. "/nginx"):match 'LD_LIBRARY_PATH="(.-)"'
  self._leash = assert(io.popen(command:format(options.url or "", self.dir, libraries, PACKAGES, self.dir, self.dir,
    self.dir), "w"))
  server.live[self] = true
  local up = server.wait_until(function()
    return uv.fs_stat(self.dir .. "/exited") or uv.fs_stat(self.dir .. "/nginx.pid") -- which it writes when it listens
  end)
  if not up or uv.fs_stat(self.dir .. "/exited") then
    local words = read(self.dir .. "/output") .. self:log()
    self:stop()
    error("nginx did not start: " .. words, 2)
  end
  self.pid = tonumber(read(self.dir .. "/pid"))
  return self
end

--- The text of its log so far.
function Nginx:log()
  return read(self.dir .. "/error.log")
end

--- The first lines of its log that are errors.
function Nginx:errors()
  local list = {}
  for line in self:log():gmatch "[^\n]+" do
    if line:find("[error]", 1, true) or line:find("[crit]", 1, true) or line:find("[alert]", 1, true) then
      list[#list + 1] = line
      if #list == 10 then break end
    end
  end
  return list
end

--- Lets its worker finish and exit, as `nginx -s quit` does.
---@return boolean whether it has within four seconds
function Nginx:quit()
  uv.kill(self.pid, "sigquit")
  return server.wait_until(function() return uv.fs_stat(self.dir .. "/exited") ~= nil end, 4) == true
end

--- Ends it and removes its directory. May be called again.
function Nginx:stop()
  if not self._leash then return end
  self._leash:write "remove\n"
  self._leash:close()
  self._leash = nil
  server.live[self] = nil
end

--- A nginx for the time of `fn(web)`, which runs as a task; it must have logged no error, unless it `may_log`.
---@param options table as for start, may_log: boolean?, seconds: number? how long it may take; url: the shared server
---@param fn fun(web: table)
function M.with(options, fn)
  options.url = options.url or server.shared().url
  local web = M.start(options)
  local ok, err = pcall(check.within, options.seconds or 120, fn, web)
  local errors = web:errors()
  local log = web:log():sub(-2000)
  web:stop()
  if not ok then error(tostring(err) .. "\n" .. log, 0) end
  if not options.may_log then assert.same({}, errors) end
end

-- Shared by several specs ---------------------------------------------------------------------------------

--- Directives (`http`) by which a request ends when its client hangs up.
M.ABORTS = "lua_check_client_abort on; init_by_lua_block { require 'redio' }"

--- A program that prints M.CLEAN if each reply of 50 commands is its own, and its connection as if new.
---@param client string an expression
function M.after(client)
  return "local redis = " .. client .. [[

    local wrong = 0
    for i = 1, 50 do
      if redis():echo("token " .. i):await() ~= "token " .. i then wrong = wrong + 1 end
    end
    local info = redis():client_info():await()
    ngx.print(wrong, info:match " db=%d+", info:match " sub=%d+",
      info:match " flags=(%S+)":find "x" and " in MULTI" or "")]] -- (of `multi` Valkey 8.1 leaves a 0)
end

M.AFTER = M.after 'shared("here", os.getenv "REDIS_URL", { max_connections = 4 })'
M.CLEAN = "0 db=0 sub=0"

-- Requests ------------------------------------------------------------------------------------------------

local function connect(self, on_data, on_end)
  local pipe = uv.new_pipe(false)
  pipe:connect(self.path, function(err)
    if err then return on_end(err) end
    pipe:read_start(function(failure, bytes)
      if bytes then on_data(bytes) else on_end(failure) end
    end)
  end)
  return pipe
end

local function body_of(answer)
  local status, rest = answer:match "^HTTP/1%.%d (%d+)[^\r\n]*\r\n(.*)$"
  local body = rest and rest:match "\r\n\r\n(.*)$"
  return tonumber(status), body
end

--- Sends a request, in a coroutine, and waits for the answer.
---@param path string with its query
---@return integer? status nil when there was no whole answer
---@return string? body
function Nginx:get(path)
  local waiter, answer = {}, {}
  local pipe
  pipe = connect(self, function(bytes)
    answer[#answer + 1] = bytes
  end, function()
    pipe:close()
    task.wake(waiter, body_of(table.concat(answer)))
  end)
  pipe:write(("GET %s HTTP/1.0\r\nHost: spec\r\n\r\n"):format(path))
  return task.wait(waiter)
end

--- Sends so many requests at the same time.
---@param path string "%" in it is the request's number
---@return string[] bodies
function Nginx:get_all(count, path)
  local fns = {}
  for i = 1, count do
    fns[i] = function() return select(2, self:get((path:gsub("%%", i)))) end
  end
  return { redio.gather(lua_version.unpack(fns)) }
end

--- Sends a request, and waits for nothing.
---@param path string with its query
---@return table pipe to close it is to hang up
function Nginx:ask(path)
  local pipe = connect(self, function() end, function() end)
  pipe:write(("GET %s HTTP/1.0\r\nHost: spec\r\n\r\n"):format(path))
  return pipe
end

--- Sends a request and hangs up after so many seconds. (nginx may not have read the request by then.)
function Nginx:abort(path, seconds)
  local pipe, waiter = self:ask(path), {}
  local timer = uv.new_timer()
  uv.update_time() -- (the loop's is from its last turn)
  timer:start(math.ceil(seconds * 1000), 0, function()
    timer:close()
    pipe:close()
    task.wake(waiter)
  end)
  task.wait(waiter)
end

return M
