package canvas

// The operator | of Celery: what follows what. The right side is not copied.

// foldChain is chain(a, b, ...): _fold_chain. Its result need not be a chain: an empty chain and a group
// give the group.
func (r *run) foldChain(tasks []*sig) *sig {
	var steps []*sig
	for i, t := range tasks {
		res := r.mergeStep(&steps, t, i != len(tasks)-1)
		if res != nil {
			for _, rest := range tasks[i+1:] {
				res = r.or(res, rest)
			}
			return res
		}
	}
	for i := range steps {
		if i < len(steps)-1 {
			steps[i] = r.clone(steps[i])
		}
	}
	return newChain(steps, emptyOptions())
}

// mergeStep is _merge_chain_step. It returns nil when the steps go on, else what they became.
func (r *run) mergeStep(steps *[]*sig, other *sig, clone bool) *sig {
	if r.err != nil || other.isEmptyGroup() {
		return nil
	}
	r.spend()
	add := func() {
		if clone {
			other = r.clone(other)
		}
		*steps = append(*steps, other)
	}
	var last *sig
	if n := len(*steps); n > 0 {
		last = (*steps)[n-1]
	}
	switch other.class {
	case groupClass:
		if other = r.live(unroll(other)); other.class != groupClass {
			return r.mergeStep(steps, other, clone)
		}
		switch {
		case last == nil:
			return other
		case last.class == chordClass:
			last.kwargs.Set("body", r.or(last.body(), other))
		default:
			add()
		}
	case chainClass:
		inner := r.unchain(other)
		for i, t := range inner {
			if res := r.mergeStep(steps, t, clone || i != len(inner)-1); res != nil {
				for _, rest := range inner[i+1:] {
					res = r.or(res, rest)
				}
				return res
			}
		}
	default:
		switch {
		case last != nil && last.class == groupClass:
			if clone {
				other = r.clone(other)
			}
			(*steps)[len(*steps)-1] = r.newChord(last, other, emptyOptions())
		case last != nil && last.class == chordClass && other.class != chordClass:
			last.kwargs.Set("body", r.or(last.body(), other))
		default:
			add()
		}
	}
	return nil
}

// or is a | b by the class of a.
func (r *run) or(a, b *sig) *sig {
	if r.err != nil {
		return a
	}
	r.spend()
	switch a.class {
	case chainClass:
		return r.chainOr(a, b)
	case groupClass:
		if b.isEmptyGroup() {
			return a
		}
		return r.newChord(a, b, emptyOptions())
	case chordClass:
		if b.class == groupClass {
			if u := unroll(b); u != b {
				c := r.clone(a)
				c.kwargs.Set("body", r.or(c.body(), r.live(u)))
				return c
			}
		} else if b.class != chainClass {
			c := r.clone(a)
			c.kwargs.Set("body", r.or(c.body(), b))
			return c
		}
	}
	switch b.class {
	case chainClass:
		return newChain(append([]*sig{a}, r.unchain(b)...), emptyOptions())
	case groupClass:
		return newChain([]*sig{a, r.live(unroll(b))}, emptyOptions())
	}
	return newChain([]*sig{a, b}, emptyOptions())
}

// chainOr is _chain.__or__.
func (r *run) chainOr(a, b *sig) *sig {
	switch {
	case b.isEmptyGroup():
		return a
	case b.class == groupClass:
		if b = r.live(unroll(b)); b.class != groupClass {
			return r.or(a, b)
		}
		tasks := r.unchain(a)
		if len(tasks) == 0 {
			return b
		}
		if last := tasks[len(tasks)-1]; last.class == chordClass {
			last.kwargs.Set("body", r.or(last.body(), b))
			return newChain(tasks, emptyOptions())
		}
		return newChain(append(tasks, b), emptyOptions())
	case b.class == chainClass:
		for _, t := range r.unchain(b) {
			a = r.or(a, t)
		}
		return a
	}
	tasks := a.tasks()
	var last *sig
	if len(tasks) > 0 {
		last = tasks[len(tasks)-1]
	}
	switch {
	case last != nil && last.class == groupClass:
		c := r.clone(a)
		tasks = c.tasks()
		n := len(tasks)
		tasks[n-1] = r.newChord(tasks[n-1], b, emptyOptions())
		if n > 1 && tasks[n-2].class == chordClass {
			tasks[n-2].kwargs.Set("body", r.or(tasks[n-2].body(), tasks[n-1]))
			tasks = tasks[:n-1]
		}
		c.setTasks(tasks)
		return c
	case last != nil && last.class == chordClass && b.class != chordClass:
		c := r.clone(a)
		tasks = c.tasks()
		l := tasks[len(tasks)-1]
		l.kwargs.Set("body", r.or(l.body(), b))
		return c
	}
	return newChain(append(r.unchain(a), b), emptyOptions())
}
