-- SPDX-License-Identifier: MIT
-- A complete transport in memory. Its clock is a number that jumps to the next timer, its loop a list of functions, and
-- its server a function. new(serve) makes one: serve(bytes, send) gets all bytes that are written to a socket.
-- send(bytes) answers, and send(nil) closes the connection.

local function new(serve)
  local transport, Socket = { name = "toy", native_tls = false }, {}
  Socket.__index = Socket
  local now, running = 0, false
  local ready, timers = {}, {}

  -- The loop: calls the ready functions, or the next timer. Returns false when nothing keeps it alive.

  local function next_timer()
    local first
    for timer in pairs(timers) do
      if not first or timer.at < first.at then first = timer end
    end
    return first
  end

  local function anything_counts()
    for timer in pairs(timers) do
      if timer.counts then return true end
    end
    return false
  end

  local function turn()
    local list = ready
    ready = {}
    for _, fn in ipairs(list) do
      fn()
    end
    if #list > 0 then return true end
    if not anything_counts() then return false end
    local timer = next_timer()
    timers[timer] = nil
    now = math.max(now, timer.at)
    timer.fn()
    return true
  end

  function transport.run(done)
    running = true
    local more = true
    while more and not done() do
      more = turn()
    end
    running = false
    return more
  end

  function transport.in_loop()
    return running
  end

  function transport.flush() end

  function transport.is_forked()
    return false
  end

  function transport.uncaught(err, traceback)
    io.stderr:write(tostring(err), "\n", traceback, "\n")
  end

  -- Time.

  function transport.now()
    return now
  end

  function transport.start_timer(seconds, fn)
    local timer = { at = now + seconds, fn = fn, counts = true }
    timers[timer] = true
    return timer
  end

  function transport.stop_timer(timer)
    timers[timer] = nil
  end

  function transport.timer_counts(timer, counts)
    timer.counts = counts
  end

  function transport.defer(fn)
    ready[#ready + 1] = fn
  end

  transport.defer_finalizer = transport.defer

  -- Sockets. Bytes that arrive while reading is stopped are kept in order, with the end behind them.

  function transport.connect(address, done)
    local attempt = {}
    function attempt.cancel()
      done = nil
    end
    transport.defer(function()
      if not done then return end
      if address.port == 1 then return done(nil, "connection refused") end
      done(setmetatable({ _arrived = {} }, Socket))
    end)
    return attempt
  end

  function Socket:_deliver()
    while self._on_data and self._arrived[1] do
      local bytes = table.remove(self._arrived, 1)
      if bytes == "" then
        local on_end = self._on_end
        self._on_data, self._on_end = nil, nil
        return on_end(nil)
      end
      self._on_data(bytes)
    end
  end

  function Socket:write(data)
    if self._closed then return end
    serve(type(data) == "table" and table.concat(data) or data, function(bytes)
      table.insert(self._arrived, bytes or "")
      transport.defer(function()
        self:_deliver()
      end)
    end)
  end

  function Socket:read_start(on_data, on_end)
    self._on_data, self._on_end = on_data, on_end
    transport.defer(function()
      self:_deliver()
    end)
  end

  function Socket:read_stop()
    self._on_data = nil
  end

  function Socket.unwritten()
    return 0
  end

  function Socket.counts() end -- (data for it is already among the ready functions, or will never come)

  function Socket:close()
    self._closed, self._on_data = true, nil
  end

  return transport
end

return { new = new }
