package redisbroker

import "github.com/redis/go-redis/v9"

// In every script the first write is one that cannot grow memory: Redis then lets the rest finish under
// maxmemory. What could fail for another reason (a key of a wrong type) is touched by a read before the
// first write, since nothing undoes half a script. No script has a "#!lua" line: it would refuse the whole.

// takeScript pops up to ARGV[2] messages and stashes them, step by step, in one pass over the queues
// after the other when ARGV[5] is 1 (round robin), else queue by queue.
//
// KEYS unacked, index, lists by step and queue. ARGV score, want, field base, queues, fair, JSON text of
// each queue, expiry in ms of each queue (0: none). Answers index of the list and text of each message.
// The same base again answers what that call took (-1 and the stash value): a reply lost on the way is
// no lost message. -2 and a key, at the end: what is there is no list, and the other lists
// are served all the same.
var takeScript = redis.NewScript(`
local want, base, width, fair = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local out, n, strange = {}, 0, {}
for i = 1, want do
  local held = redis.call('HGET', KEYS[1], base .. i)
  if not held then break end
  out[#out + 1] = -1
  out[#out + 1] = held
end
if #out > 0 then return out end
redis.call('ZSCORE', KEYS[2], base)
local function answer()
  for key in pairs(strange) do
    out[#out + 1] = -2
    out[#out + 1] = key
  end
  return out
end
local function take(list, queue)
  local raw = redis.pcall('RPOP', KEYS[list])
  if not raw then return false end
  if type(raw) == 'table' then
    strange[KEYS[list]] = true
    return false
  end
  local field = base .. (n + 1)
  local r = redis.pcall('HSET', KEYS[1], field, '[' .. raw .. ', "", ' .. ARGV[5 + queue] .. ']')
  if type(r) ~= 'table' then r = redis.pcall('ZADD', KEYS[2], ARGV[1], field) end
  if type(r) == 'table' and r.err then
    redis.pcall('HDEL', KEYS[1], field)
    redis.call('RPUSH', KEYS[list], raw)
    return r
  end
  n = n + 1
  out[#out + 1] = list - 3
  out[#out + 1] = raw
  return true
end
for first = 3, #KEYS, width do
  local again = true
  while again and n < want do
    again = false
    for q = 1, width do
      while n < want do
        local r = take(first + q - 1, q)
        if type(r) == 'table' then
          if n > 0 then return answer() end
          return r
        end
        if not r then break end
        again = true
        if fair then break end
      end
    end
  end
end
for q = 1, width do
  local ttl = ARGV[5 + width + q]
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
