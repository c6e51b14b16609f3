package protocol

import (
	"math/big"
	"slices"
	"time"
)

// A Value is what one Python value becomes here, whichever serializer carried it. It is one of:
//
//	nil         None
//	bool        True, False
//	int64       int that fits 64 bits
//	*big.Int    int beyond 64 bits, and only that
//	float64     float, NaN and the infinities included; 3.0 is never an int64
//	string      str; a lone surrogate is kept as its three-byte (WTF-8) form
//	[]byte      bytes
//	[]Value     list or tuple
//	*Object     dict, in insertion order
//	DateTime    datetime      Date  date      TimeOfDay  time
//	Decimal     decimal.Decimal               UUID       uuid.UUID
//	Set         set (yaml only; json and msgpack cannot carry one)
//
// Decoders return no other type; encoders refuse any other type with an *EncodeError. FromGo turns
// ordinary Go values into Values, ToGo the reverse.
type Value = any

// A DateTime is Python's datetime.datetime, microseconds precise. Naive means it had no offset; Time
// then holds its wall clock in UTC.
type DateTime struct {
	Time  time.Time
	Naive bool
}

// A Date is Python's datetime.date.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// A TimeOfDay is Python's datetime.time. Offset is its zone's offset in seconds east of UTC and nil when naive.
type TimeOfDay struct {
	Hour, Minute, Second, Microsecond int
	Offset                            *int
}

// A Decimal is the text of Python's decimal.Decimal: "1.10", "1E+5", "NaN".
type Decimal string

// A UUID is Python's uuid.UUID.
type UUID [16]byte

// A Set is Python's set, in the order it was written.
type Set []Value

// An Object is a Python dict with string keys: it keeps insertion order, and of a key set twice the
// first place and the last value. The zero Object is empty and ready to use. A nil *Object reads as
// empty. It is not safe for concurrent use.
type Object struct {
	members []Member
	index   map[string]int // nil while members are few
}

// A Member is one key of an Object.
type Member struct {
	Key   string
	Value Value
}

// indexFrom is the size from which an Object keeps a map: below it a linear search is faster, above it
// a hostile message with many keys would make Set quadratic.
const indexFrom = 32

// ObjectOf returns an Object of the members in their order.
func ObjectOf(members ...Member) *Object {
	o := &Object{members: make([]Member, 0, len(members))}
	for _, m := range members {
		o.Set(m.Key, m.Value)
	}
	return o
}

// Len is the number of keys.
func (o *Object) Len() int {
	if o == nil {
		return 0
	}
	return len(o.members)
}

// Members is every member in order. The slice belongs to o: read it, do not change it.
func (o *Object) Members() []Member {
	if o == nil {
		return nil
	}
	return o.members
}

// Get returns the value of key and whether it is there. A key that is there may hold nil (None).
func (o *Object) Get(key string) (Value, bool) {
	if i := o.find(key); i >= 0 {
		return o.members[i].Value, true
	}
	return nil, false
}

// Set stores value under key, in its old place if the key is there already, else at the end.
func (o *Object) Set(key string, value Value) {
	if i := o.find(key); i >= 0 {
		o.members[i].Value = value
		return
	}
	o.members = append(o.members, Member{key, value})
	switch {
	case o.index != nil:
		o.index[key] = len(o.members) - 1
	case len(o.members) >= indexFrom:
		o.reindex()
	}
}

// Delete removes key and reports whether it was there.
func (o *Object) Delete(key string) bool {
	i := o.find(key)
	if i < 0 {
		return false
	}
	o.members = slices.Delete(o.members, i, i+1)
	if o.index != nil {
		o.reindex()
	}
	return true
}

// Clone returns a copy whose members can be set and deleted without touching o. Nested values are shared.
func (o *Object) Clone() *Object {
	if o == nil {
		return &Object{}
	}
	c := &Object{members: slices.Clone(o.members)}
	if o.index != nil {
		c.reindex()
	}
	return c
}

func (o *Object) find(key string) int {
	if o == nil {
		return -1
	}
	if o.index != nil {
		if i, ok := o.index[key]; ok {
			return i
		}
		return -1
	}
	for i := range o.members {
		if o.members[i].Key == key {
			return i
		}
	}
	return -1
}

func (o *Object) reindex() {
	o.index = make(map[string]int, 2*len(o.members))
	for i, m := range o.members {
		o.index[m.Key] = i
	}
}

// IntValue returns i as the Value a decoder would give: int64 where it fits, else *big.Int.
func IntValue(i *big.Int) Value {
	if i.IsInt64() {
		return i.Int64()
	}
	return i
}
