package redisbroker

import "github.com/redis/go-redis/v9"

// In every script the first write is one that cannot grow memory: Redis then lets the rest finish under
// maxmemory. What could fail for another reason (a key of a wrong type) is touched by a read before the
// first write, since nothing undoes half a script. No script has a "#!lua" line: it would refuse the whole.

// takeScript pops up to ARGV[2] messages and stashes them, step by step: in one pass over the queues after the other when
// ARGV[5] is 1 (round robin), else queue by queue. It stops early behind ARGV[6] bytes. What it pops at a time it puts into
// the stash by one command each, and back in its order if that is refused.
//
// KEYS unacked, index, lists by step and queue. ARGV score, want, field base, queues, fair, bytes, JSON text of
// each queue, expiry in ms of each queue (0: none). Answers runs: the index of a list, a number, and texts taken from the
// list. The first is stashed under the base and that number in three digits, the next under the next number. -2 and a key, at
// the end: what is there is no list, and the other lists are served all the same.
var takeScript = redis.NewScript(`
local want, base, width, fair, most = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1', tonumber(ARGV[6])
local out, n, bytes, strange = {}, 0, 0, {}
redis.call('HEXISTS', KEYS[1], base)
redis.call('ZSCORE', KEYS[2], base)
local function answer()
  for key in pairs(strange) do
    out[#out + 1] = -2
    out[#out + 1] = key
  end
  return out
end
-- take takes count messages under the numbers given, or those after n.
local function take(list, queue, count, numbers)
  local raws = redis.pcall('RPOP', KEYS[list], count)
  if not raws then return {} end
  if raws.err then
    strange[KEYS[list]] = true
    return {}
  end
  local tail, hash, index = ', "", ' .. ARGV[6 + queue] .. ']', {}, {}
  for i, raw in ipairs(raws) do
    local field = base .. string.format('%03d', numbers and numbers[i] or n + i)
    hash[2 * i - 1] = field
    hash[2 * i] = '[' .. raw .. tail
    index[2 * i - 1] = ARGV[1]
    index[2 * i] = field
    bytes = bytes + #raw
  end
  local r = redis.pcall('HSET', KEYS[1], unpack(hash))
  if type(r) ~= 'table' then r = redis.pcall('ZADD', KEYS[2], unpack(index)) end
  if type(r) == 'table' and r.err then
    for i = #raws, 1, -1 do
      redis.pcall('HDEL', KEYS[1], hash[2 * i - 1])
      redis.call('RPUSH', KEYS[list], raws[i])
    end
    return r
  end
  return raws
end
-- pass takes up to room messages of one step, and answers how many.
local function pass(first, room)
  local got = 0
  if width == 1 or not fair then
    for q = 1, width do
      local list = first + q - 1
      local raws = got < room and take(list, q, room - got) or {}
      if raws.err then return raws end
      if #raws > 0 then
        out[#out + 1] = list - 3
        out[#out + 1] = n + 1
        for i = 1, #raws do out[#out + 1] = raws[i] end
        got = got + #raws
        n = n + #raws
      end
    end
    return got
  end
  local waiting, share, turn, again = {}, {}, {}, true
  for q = 1, width do
    local len = redis.pcall('LLEN', KEYS[first + q - 1])
    if type(len) == 'table' then
      strange[KEYS[first + q - 1]] = true
      len = 0
    end
    waiting[q] = len
    share[q] = {}
  end
  while again and got < room do
    again = false
    for q = 1, width do
      if got < room and #share[q] < waiting[q] then
        got = got + 1
        turn[got] = q
        share[q][#share[q] + 1] = n + got
        again = true
      end
    end
  end
  local taken, failed = {}, nil
  for q = 1, width do
    taken[q] = {}
    if #share[q] > 0 and not failed then
      taken[q] = take(first + q - 1, q, #share[q], share[q])
      if taken[q].err then failed, taken[q] = taken[q], {} end
    end
  end
  local at = {}
  for i = 1, got do
    local q = turn[i]
    at[q] = (at[q] or 0) + 1
    if taken[q][at[q]] then
      out[#out + 1] = first + q - 4
      out[#out + 1] = n + i
      out[#out + 1] = taken[q][at[q]]
    end
  end
  n = n + got
  return failed or got
end
local chunk = 16
for first = 3, #KEYS, width do
  local got, room
  repeat
    room = math.min(want - n, chunk)
    if room == 0 or bytes >= most then break end
    got = pass(first, room)
    if type(got) == 'table' then
      if #out > 0 then return answer() end
      return got
    end
    chunk = 2 * chunk
  until got < room
end
for q = 1, width do
  local ttl = ARGV[6 + width + q]
  if ttl ~= '0' then
    for list = 2 + q, #KEYS, width do redis.call('PEXPIRE', KEYS[list], ttl) end
  end
end
return answer()
`)

// dropScript acks. KEYS unacked, index. ARGV fields. Answers a text with 1 for each field, or 0 when that message was not
// ours any more. (A transaction would do, but Redis refuses to queue one when memory is full.)
var dropScript = redis.NewScript(`
local there = {}
for i = 1, #ARGV do there[i] = redis.call('HDEL', KEYS[1], ARGV[i]) end
redis.call('ZREM', KEYS[2], unpack(ARGV))
return '' .. table.concat(there)
`)

// probeScript tells whether scripts are permitted.
var probeScript = redis.NewScript(`return 1`)

// renewScript sets the score of each field that is still stashed and answers 1 or 0 for each.
// KEYS unacked, index. ARGV score, fields. Only the index is written: Python watches the hash.
var renewScript = redis.NewScript(`
local out = {}
for i = 2, #ARGV do
  out[i - 1] = redis.call('HEXISTS', KEYS[1], ARGV[i])
  redis.call('ZREM', KEYS[2], ARGV[i])
  if out[i - 1] == 1 then redis.call('ZADD', KEYS[2], ARGV[1], ARGV[i]) end
end
return out
`)

// moveScript takes a stashed message out and pushes a text to the target lists, if the stash still holds
// what we think (and, for a sweep, is still overdue: score at most ARGV[5]). Answers 1 or 0.
// KEYS unacked, index, targets. ARGV field, expected value, LPUSH or RPUSH, text, latest score or "".
var moveScript = redis.NewScript(`
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
if ARGV[5] ~= '' and score and tonumber(score) > tonumber(ARGV[5]) then return 0 end
for i = 3, #KEYS do redis.call('LLEN', KEYS[i]) end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
for i = 3, #KEYS do
  local r = redis.pcall(ARGV[3], KEYS[i], ARGV[4])
  if type(r) == 'table' and r.err then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    redis.call('ZADD', KEYS[2], score or 0, ARGV[1])
    return r
  end
end
return 1
`)

// shieldScript replaces a stash value that Python's sweep could not read by one that it can.
// KEYS unacked. ARGV field, expected value, new value.
var shieldScript = redis.NewScript(`
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
`)

// forgetScript removes an index entry without a message. KEYS unacked, index. ARGV field.
var forgetScript = redis.NewScript(`
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 0 end
return redis.call('ZREM', KEYS[2], ARGV[1])
`)

// unlockScript releases the sweep lock if it is still ours. KEYS mutex. ARGV token.
var unlockScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`)

// transferScript moves one message of a list, the next of those equal to it, to the end of another list, or
// deletes it. KEYS list, target (none: delete). ARGV text. Answers whether it was there.
var transferScript = redis.NewScript(`
if KEYS[2] then redis.call('LLEN', KEYS[2]) end
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
if KEYS[2] then redis.call('LPUSH', KEYS[2], ARGV[1]) end
return 1
`)
