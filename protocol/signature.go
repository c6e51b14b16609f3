package protocol

// Signatures stay the opaque Values they came as: whoever runs or forwards one needs every option, known
// or not. These two only read what it takes to tell somebody how a step ended that will never run.

// SignatureID is options.task_id of a signature, under which its client waits; "" when v has none or is
// no signature.
func SignatureID(v Value) string {
	o, _ := v.(*Object)
	options, _ := o.Get("options")
	inner, _ := options.(*Object)
	id, _ := inner.Get("task_id")
	s, _ := id.(string)
	if len(s) > MaxIDBytes {
		return ""
	}
	return s
}

// SignatureName is the task a signature calls; "" when v is no signature.
func SignatureName(v Value) string {
	o, _ := v.(*Object)
	name, _ := o.Get("task")
	s, _ := name.(string)
	return s
}
