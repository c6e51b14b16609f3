package worker

import "github.com/stalkworker/stalk/protocol"

const (
	lookedAt  = 256 // values that weight looks at
	eachValue = 16  // bytes that any of them may have
)

// weight is about how many bytes v will have when it is stored: near enough to tell kilobytes from megabytes, and never long to
// find out. Of a large list the first values speak for the others.
func weight(v protocol.Value) int {
	looks := lookedAt
	return weigh(v, &looks)
}

func weigh(v protocol.Value, looks *int) int {
	*looks--
	switch v := v.(type) {
	case string:
		return eachValue + len(v)
	case []byte:
		return eachValue + len(v)
	case []protocol.Value:
		total, n := 0, 0
		for ; n < len(v) && *looks > 0; n++ {
			total += weigh(v[n], looks)
		}
		return eachValue + total/max(n, 1)*(len(v)-n) + total
	case *protocol.Object:
		total, n := 0, 0
		for _, m := range v.Members() {
			if *looks <= 0 {
				break
			}
			total += len(m.Key) + weigh(m.Value, looks)
			n++
		}
		return eachValue + total/max(n, 1)*(v.Len()-n) + total
	}
	return eachValue
}
