-- SPDX-License-Identifier: MIT
--- Bytes and what the decoder makes of them: one line per case, and the Lua value that a caller gets.
--
-- gives(name, bytes, ...)        these replies, one result each
-- refused(name, bytes, limits?)  a protocol error; nothing after it is ever read
-- unfinished(name, bytes)        not a whole reply: more must come
-- push(name, bytes)              out of band: no reply at all
--
-- `limits` is the client's option for that case; the others run under the defaults.
-- NULL is nil as a result and false inside a table; failure(text) is an error object.

local INF, NAN = math.huge, 0 / 0
local NULL = false

local cases = {}

local function add(kind, name, bytes, fields)
  fields.kind, fields.name, fields.bytes = kind, name, bytes
  cases[#cases + 1] = fields
end

local function gives(name, bytes, ...)
  add("gives", name, bytes, { values = { ... }, count = select("#", ...) })
end

local function refused(name, bytes, limits)
  add("refused", name, bytes, { limits = limits })
end

local function unfinished(name, bytes)
  add("unfinished", name, bytes, {})
end

local function push(name, bytes)
  add("push", name, bytes, {})
end

local function failure(text)
  return { failure = text }
end

-- Beyond 2^53: an integer where Lua has integers, else the decimal string.
local function int(text)
  return math.type and tonumber(text) or text
end

local function nested(depth, value)
  for _ = 1, depth do
    value = { value }
  end
  return value
end

-- Simple strings and errors
gives("simple_ok", "+OK\r\n", "OK")
gives("simple_high_bytes", "+\xc3\xa9\xff\x00z\r\n", "\xc3\xa9\xff\x00z")
gives("error_code",
  "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
  failure("WRONGTYPE Operation against a key holding the wrong kind of value"))
gives("error_no_code", "-oops\r\n", failure("oops"))

-- Integers
gives("int_zero", ":0\r\n", 0)
gives("int_max", ":9223372036854775807\r\n", int("9223372036854775807"))
gives("int_min", ":-9223372036854775808\r\n", int("-9223372036854775808"))
gives("int_plus_sign", ":+5\r\n", 5)
refused("int_overflow_pos", ":9223372036854775808\r\n")
refused("int_overflow_20_digits", ":99999999999999999999\r\n")
refused("int_empty", ":\r\n")
refused("int_space", ": 1\r\n")
refused("int_trailing_junk", ":12x\r\n")
refused("int_leading_zero", ":007\r\n")
refused("int_negative_zero", ":-0\r\n")
refused("int_float", ":1e3\r\n")

-- Bulk strings
gives("bulk", "$5\r\nhello\r\n", "hello")
gives("bulk_null", "$-1\r\n", NULL)
gives("bulk_with_crlf", "$8\r\na\r\nb\r\nc\r\r\n", "a\r\nb\r\nc\r")
gives("bulk_looks_like_resp", "$13\r\n+OK\r\n$-1\r\n:1\r\r\n", "+OK\r\n$-1\r\n:1\r")
refused("bulk_len_minus2", "$-2\r\nasdf\r\n")
refused("bulk_len_junk", "$3a\r\nabc\r\n")
refused("bulk_len_plus", "$+3\r\nabc\r\n")
refused("bulk_len_negzero", "$-0\r\n\r\n")
refused("bulk_trailer_not_crlf", "$3\r\nabcXY+OK\r\n")
refused("bulk_len_over_512mb", "$536870913\r\n")
refused("bulk_len_i64max", "$9223372036854775807\r\nasdf\r\n")
refused("bulk_len_u64_wrap", "$18446744073709551615\r\n")
refused("bulk_len_u32_wrap", "$4294967297\r\na\r\n")
unfinished("bulk_missing_trailer", "$5\r\nhello\r")
unfinished("type_byte_only", "$")

-- Arrays
gives("array", "*2\r\n$3\r\nfoo\r\n$3\r\nbar\r\n", { "foo", "bar" })
gives("array_empty", "*0\r\n", {})
gives("array_mixed_nested",
  "*5\r\n:1\r\n$-1\r\n*2\r\n+a\r\n-ERR b\r\n*-1\r\n*0\r\n",
  { 1, NULL, { "a", failure("ERR b") }, NULL, {} })
gives("array_trailing_nulls", "*3\r\n$1\r\na\r\n$-1\r\n$-1\r\n", { "a", NULL, NULL })
refused("array_len_junk", "*x\r\n")
refused("array_len_empty", "*\r\n")
refused("array_len_i64max", "*9223372036854775807\r\n+asdf\r\n")
refused("array_len_sizemax_div_ptr_plus3", "*2305843009213693954\r\n+asdf\r\n")
refused("array_over_max_elements", "*1025\r\n", { max_elements = 1024 })
unfinished("array_big_header_no_prealloc", "*16777216\r\n")
unfinished("array_partial", "*3\r\n$3\r\nSET\r\n$5\r\nhello\r\n$")
gives("depth_at_limit", ("*1\r\n"):rep(128) .. "+OK\r\n", nested(128, "OK"))
refused("depth_8000", ("*1\r\n"):rep(80):rep(100))

-- Several replies, and bytes that are no reply
gives("pipeline_three", "+OK\r\n:1\r\n$1\r\nx\r\n", "OK", 1, "x")
refused("error_frees_partial_tree", "*2\r\n$5\r\nhello\r\n@foo\r\n")
refused("sticky_error", "x+OK\r\n")
refused("unknown_type_nul", "\x00")
refused("leading_crlf", "\r\n+OK\r\n")
refused("tls_alert_on_plain", "\x15\x03\x03\x00\x02\x02F")
refused("chunk_at_top", ";4\r\nHell\r\n")

-- Lines
refused("simple_bare_lf", "+OK\n+OK\r\n")
refused("simple_bare_cr", "+a\rb\r\n")
local LONG = ("a"):rep(70):rep(1000)
gives("simple_line_long", "+" .. LONG .. "\r\n", LONG)
gives("error_line_long", "-ERR " .. LONG .. "\r\n", failure("ERR " .. LONG))
refused("simple_line_too_long", "+" .. ("a"):rep(70), { max_line = 64 })
refused("int_line_too_long", ":1111111111111111111111111111111111111111")

-- RESP3: null and booleans
gives("null3", "_\r\n", NULL)
refused("null3_junk", "_x\r\n")
gives("bool_false", "#f\r\n", false)
refused("bool_upper", "#T\r\n")
refused("bool_empty", "#\r\n")
refused("bool_digit", "#1\r\n")

-- RESP3: doubles
gives("dbl_int_form", ",10\r\n", 10.0)
gives("dbl_exp", ",1.5e3\r\n", 1500.0)
gives("dbl_E_minus", ",-2.5E-3\r\n", -0.0025)
gives("dbl_negzero", ",-0\r\n", -0.0)
gives("dbl_max", ",1.7976931348623157e308\r\n", 1.7976931348623157e+308)
gives("dbl_normal_min", ",2.2250738585072014e-308\r\n", 2.2250738585072014e-308)
gives("dbl_inf", ",inf\r\n", INF)
gives("dbl_neginf", ",-inf\r\n", -INF)
gives("dbl_neg_nan", ",-nan\r\n", NAN)
gives("dbl_NAN_libc", ",NAN\r\n", NAN)
gives("dbl_plus", ",+1.5\r\n", 1.5)
refused("dbl_empty", ",\r\n")
refused("dbl_no_exp_digits", ",1e\r\n")
refused("dbl_sign_only", ",+\r\n")
refused("dbl_comma", ",1,5\r\n")
refused("dbl_word", ",abc\r\n")
refused("dbl_nul", ",3.14159\x00265\r\n")
refused("dbl_leading_dot", ",.5\r\n")
refused("dbl_hex", ",0x1p3\r\n")
refused("dbl_leading_space", ", 1\r\n")
refused("dbl_overflow", ",1e400\r\n")

-- RESP3: big numbers
gives("big",
  "(3492890328409238509324850943850943825024385\r\n",
  "3492890328409238509324850943850943825024385")
gives("big_small", "(7\r\n", "7")
refused("big_empty", "(\r\n")
refused("big_decimal", "(1.5\r\n")
refused("big_alpha", "(12a\r\n")

-- RESP3: blob errors and verbatim strings
gives("blob_error_crlf", "!10\r\nERR a\r\nb c\r\n", failure("ERR a\r\nb c"))
gives("blob_error_empty", "!0\r\n\r\n", failure(""))
gives("verbatim", "=15\r\ntxt:Some string\r\n", "Some string")
gives("verbatim_mkd_nl", "=8\r\nmkd:a\r\nb\r\n", "a\r\nb")
refused("verbatim_too_short", "=3\r\ntxt\r\n")
refused("verbatim_no_colon", "=8\r\ntxtXabcd\r\n")

-- RESP3: maps
gives("map", "%2\r\n+first\r\n:1\r\n$6\r\nsecond\r\n#t\r\n", { ["first"] = 1, ["second"] = true })
gives("map_empty", "%0\r\n", {})
gives("map_null_key", "%1\r\n_\r\n:1\r\n", { { NULL, 1 } })
gives("map_nan_key", "%1\r\n,nan\r\n:1\r\n", { { NAN, 1 } })
gives("map_dup_keys", "%2\r\n+a\r\n:1\r\n+a\r\n:2\r\n", { ["a"] = 2 })
gives("map_null_value", "%1\r\n+a\r\n_\r\n", { ["a"] = NULL })
gives("map_of_odd_maps",
  "%3\r\n$1\r\na\r\n$1\r\nx\r\n+b\r\n%2\r\n+c\r\n-ERR d\r\n*0\r\n:1\r\n_\r\n%1\r\n+e\r\n:2\r\n",
  { { "a", "x" }, { "b", { { "c", failure("ERR d") }, { {}, 1 } } }, { NULL, { e = 2 } } })
refused("map_len_overflow_x2", "%4611686018427387904\r\n")
refused("map_len_i64max", "%9223372036854775807\r\n")

-- RESP3: sets
gives("set", "~5\r\n+orange\r\n$5\r\napple\r\n#f\r\n:100\r\n:999\r\n", { "orange", "apple", false, 100, 999 })
gives("set_empty", "~0\r\n", {})
refused("set_null_len", "~-1\r\n")

-- RESP3: nulls of the old form stay legal
gives("resp3_null_bulk", "$-1\r\n", NULL)

-- Pushes: out of band, never a reply
push("push_message", ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n")
gives("push_before_reply", ">2\r\n$16\r\nserver-cpu-usage\r\n:42\r\n$2\r\nhi\r\n", "hi")
push("push_invalidate_null", ">2\r\n$10\r\ninvalidate\r\n_\r\n")
push("push_unsubscribe_null", ">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n")
refused("push_empty", ">0\r\n")
refused("push_kind_not_string", ">1\r\n:1\r\n")

-- Attributes: skipped, never a reply or an element
gives("attr_top",
  "|1\r\n+key-popularity\r\n%2\r\n$1\r\na\r\n,0.1923\r\n$1\r\nb\r\n,0.0012\r\n*2\r\n:2039123\r\n:9543892\r\n",
  { 2039123, 9543892 })
gives("attr_captured",
  "|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n$39\r\nSome real reply following the attribute\r\n",
  "Some real reply following the attribute")
gives("attr_empty", "|0\r\n+OK\r\n", "OK")
gives("attr_twice", "|1\r\n+a\r\n:1\r\n|1\r\n+b\r\n:2\r\n+OK\r\n", "OK")
refused("attr_without_end", ("|0\r\n"):rep(17), { max_elements = 16 })
unfinished("attr_then_nothing", "|1\r\n+a\r\n:1\r\n")
refused("attr_before_end", "*?\r\n:1\r\n|1\r\n+a\r\n:1\r\n.\r\n")

-- Streamed strings and aggregates
gives("stream_str_empty", "$?\r\n;0\r\n", "")
gives("stream_str_in_array", "*2\r\n$?\r\n;1\r\na\r\n;0\r\n:1\r\n", { "a", 1 })
refused("stream_str_neg_chunk", "$?\r\n;-1\r\n")
refused("stream_str_chunk_trailer", "$?\r\n;1\r\naXX")
gives("stream_array", "*?\r\n:1\r\n:2\r\n:3\r\n.\r\n", { 1, 2, 3 })
gives("stream_array_empty", "*?\r\n.\r\n", {})
gives("stream_map", "%?\r\n+a\r\n:1\r\n+b\r\n:2\r\n.\r\n", { ["a"] = 1, ["b"] = 2 })
gives("stream_nested", "*?\r\n*?\r\n.\r\n%1\r\n+a\r\n*?\r\n:1\r\n.\r\n.\r\n", { {}, { ["a"] = { 1 } } })
refused("stream_end_in_fixed", "*2\r\n:1\r\n.\r\n")
refused("stream_end_junk", "*?\r\n.x\r\n")
refused("stream_verbatim", "=?\r\n;0\r\n")
-- (A limit that leaves room for the answer to HELLO.)
refused("stream_over_max_elements", "*?\r\n" .. (":1\r\n"):rep(17), { max_elements = 16 })

-- Two answers to one SUBSCRIBE are two replies
gives("resp2_sub_ack_two",
  "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n",
  { "subscribe", "a", 1 }, { "subscribe", "b", 2 })

return cases
