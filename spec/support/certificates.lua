-- SPDX-License-Identifier: MIT
-- Certificates for the specs, made by openssl when they are needed, in a private directory.

local uv = require "luv"

local M = {}

-- The subjects' names, and their properties. `by`: the subject that signs, or false for itself. `days` left.
local SUBJECTS = {
  { name = "ca", by = false, ca = true },
  { name = "other_ca", by = false, ca = true },
  { name = "server", names = "DNS:localhost,DNS:redis.test,DNS:*.wild.test" },
  { name = "other_host", names = "DNS:elsewhere.test" },
  { name = "ip", names = "IP:127.0.0.1,IP:0:0:0:0:0:0:0:1" },
  { name = "ip_as_dns", names = "DNS:127.0.0.1" },
  { name = "cn_only", cn = "localhost" },
  { name = "cn_other", cn = "localhost", names = "DNS:elsewhere.test" },
  { name = "expired", names = "DNS:localhost", days = -1 },
  { name = "self_signed", names = "DNS:localhost", by = false },
  { name = "for_clients", names = "DNS:localhost", usage = "clientAuth" },
  { name = "client", usage = "clientAuth" },
  { name = "foreign", usage = "clientAuth", by = "other_ca" },
}

local COMMANDS = [[
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout %s.key -subj '/CN=%s' -out %s.csr &&
openssl x509 -req -in %s.csr %s -days %d -sha256 -extfile %s.ext -out %s.crt]]

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

local function extensions(subject)
  local lines = { "basicConstraints=critical,CA:" .. (subject.ca and "TRUE" or "FALSE") }
  if subject.names then
    lines[#lines + 1] = "subjectAltName=" .. subject.names
  end
  if not subject.ca then
    lines[#lines + 1] = "extendedKeyUsage=" .. (subject.usage or "serverAuth")
  end
  return table.concat(lines, "\n") .. "\n"
end

local function commands(dir, subject)
  local name, by = subject.name, subject.by
  if by == nil then
    by = "ca"
  end
  write(("%s/%s.ext"):format(dir, name), extensions(subject))
  local signer = by and ("-CA %s.crt -CAkey %s.key -CAcreateserial"):format(by, by) or ("-signkey %s.key"):format(name)
  return COMMANDS:format(name, subject.cn or ("redio spec " .. name), name, name, signer, subject.days or 2, name,
    name)
end

local Certificates = {}
Certificates.__index = function(self, name)
  if Certificates[name] then
    return Certificates[name]
  end
  local cert = ("%s/%s.crt"):format(self.dir, name)
  return assert(io.open(cert), "no such certificate: " .. name):close()
    and { cert = cert, key = ("%s/%s.key"):format(self.dir, name) }
end

--- Removes the directory.
function Certificates:remove()
  os.execute(("rm -rf '%s'"):format(self.dir))
end

--- Writes a file into the directory; returns its path.
function Certificates:write(name, text)
  local path = self.dir .. "/" .. name
  write(path, text)
  return path
end

--- Runs openssl in the directory.
function Certificates:openssl(command)
  local pipe = io.popen(("cd '%s' && { openssl %s ;} 2>&1; echo $?"):format(self.dir, command))
  local text, status = pipe:read("*a"):match("^(.-)(%d+)\n$")
  pipe:close()
  assert(status == "0", text)
  return text
end

--- Makes them all: `certificates.server.cert`, `.key` and so on are their files.
---@return table certificates
function M.make()
  local dir = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/redio-XXXXXX"))
  local script = { "set -e", ("cd '%s'"):format(dir) }
  for _, subject in ipairs(SUBJECTS) do
    script[#script + 1] = commands(dir, subject)
  end
  write(dir .. "/make.sh", table.concat(script, "\n") .. "\n")
  local pipe = io.popen(("sh '%s/make.sh' 2>&1; echo $?"):format(dir))
  local text, status = pipe:read("*a"):match("^(.-)(%d+)\n$")
  pipe:close()
  assert(status == "0", text)
  return setmetatable({ dir = dir }, Certificates)
end

return M
