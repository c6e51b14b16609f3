"""The same canvases on two workers, for the differential tests (interop_test/differential_test.go).

    tasks     what a Python worker serves: the demo.* tasks of `stalk worker --demo`, in Python
    canvases  makes canvases from a seed, prints them and builds them
    record    writes down every message that is published and tells when all is quiet
    observe   what one canvas did, without what differs from run to run
    compare   runs the canvases on each worker and lists what differs
"""
