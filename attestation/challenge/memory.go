// SPDX-License-Identifier: Apache-2.0

package challenge

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"
)

// DefaultCapacity is the number of keys that a [Memory] remembers, of about 150
// bytes each.
const DefaultCapacity = 65536

// MemoryOptions are the options of [NewMemory].
type MemoryOptions struct {
	// Capacity is the greatest number of keys. Zero: [DefaultCapacity].
	Capacity int
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// A Memory is a [UsedSet] of one process. It forgets a key when its time has
// come and not before: when it is full it refuses.
type Memory struct {
	capacity int
	now      func() time.Time

	mu   sync.Mutex
	keys map[Key]struct{}
	ends ends
	// forgotten is the latest end of a key that was forgotten. A clock that is
	// set back must not make such a key new again.
	forgotten time.Time
}

// NewMemory makes a Memory.
func NewMemory(o MemoryOptions) (*Memory, error) {
	m := &Memory{capacity: o.Capacity, now: o.Now, keys: map[Key]struct{}{}}
	if m.capacity == 0 {
		m.capacity = DefaultCapacity
	}
	if m.capacity < 0 {
		return nil, errors.New("challenge: the capacity is negative")
	}
	if m.now == nil {
		m.now = time.Now
	}
	return m, nil
}

// Use implements [UsedSet]. A key whose time has passed is taken for used.
func (m *Memory) Use(_ context.Context, key Key, until time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget()
	if _, there := m.keys[key]; there || !until.After(m.now()) || !until.After(m.forgotten) {
		return false, nil
	}
	if len(m.keys) >= m.capacity {
		return false, ErrFull
	}
	m.keys[key] = struct{}{}
	heap.Push(&m.ends, end{key, until})
	return true, nil
}

// Used implements [UsedSet].
func (m *Memory) Used(_ context.Context, key Key) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, there := m.keys[key]
	return there, nil
}

// Room implements [UsedSet].
func (m *Memory) Room(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget()
	if len(m.keys) >= m.capacity {
		return ErrFull
	}
	return nil
}

// forget drops the keys whose time has passed.
func (m *Memory) forget() {
	now := m.now()
	for len(m.ends) > 0 && !m.ends[0].until.After(now) {
		e := heap.Pop(&m.ends).(end)
		delete(m.keys, e.key)
		if e.until.After(m.forgotten) {
			m.forgotten = e.until
		}
	}
}

type end struct {
	key   Key
	until time.Time
}

// ends is a heap, earliest first.
type ends []end

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].until.Before(e[j].until) }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(end)) }
func (e *ends) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}
