package interop_test

import "testing"

func TestExceptionsOfTheProjectAreRaisedAsThemselves(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("errors")
		s.shop(t, queue)
		s.python(t, queue).run(`
			from shop.errors import PaymentDeclined, Refused
			r = pay.apply_async(("A-17",), {"cents": 2**40}, queue=Q)
			exc = raises(PaymentDeclined, "A-17: %d cents declined" % 2**40, r.get, timeout=60)
			assert (exc.order, exc.cents, exc.args) == ("A-17", 2**40, ("A-17", 2**40)), vars(exc)
			assert r.state == "FAILURE" and "shop.errors.PaymentDeclined" in r.traceback, r.traceback
			exc = raises(Refused.Finally, None, refund.apply_async(("A-18", 5), queue=Q).get, timeout=60)
			assert exc.args == ("A-18", 5), exc.args
		`)
	})
}

func TestAClassTheClientDoesNotHaveBecomesOneOfThatName(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("the prefork pool cannot pickle a class that no module has")
		}
		queue := unique("errors")
		s.shop(t, queue)
		s.python(t, queue).run(`
			for task, name in [(audit, "LedgerClosed"), (ship, "NoSuchClass")]:
			    exc = raises(name, "('A-19', 7)", task.apply_async(("A-19", 7), queue=Q).get, timeout=60)
			    assert exc.args == ("A-19", 7), exc.args
		`)
	})
}

func TestAPanicIsARuntimeErrorWithAPythonTraceback(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("panic")
		s.shop(t, queue)
		p := s.python(t, queue)
		p.run(`
			import re
			r = shelf.apply_async((7,), queue=Q)
			exc = raises(RuntimeError, None, r.get, timeout=60)
			assert "index out of range [7]" in str(exc), exc
			lines = r.traceback.splitlines()
			assert lines[0] == "Traceback (most recent call last):", r.traceback
			frames = [re.fullmatch(r'  File "([^"]+)", line (\d+), in (.+)', line) for line in lines]
			frames = [m.groups() for m in frames if m]
			assert frames, r.traceback
			assert lines[-1] == "RuntimeError: " + str(exc), r.traceback
		`)
		if !celeryInstead {
			p.run(`
				file, line, function = frames[-1] # where it happened comes last
				assert file.endswith("interop_test/shopworker/main.go") and function == "main.shelf" and int(line) > 1, r.traceback
			`)
		}
		p.run(`raises(RuntimeError, None, shelf.apply_async((-1,), queue=Q).get, timeout=60)`) // the worker goes on
	})
}
