"""Writes what an app without settings answers to `inspect conf` with defaults into worker/defaults.json.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python defaults.py

The values are masked as Celery masks them, so that nothing is left to decide. broker_url and its two siblings are
null: Celery shows the address of a broker there that nobody named.
"""
import json
import os

from celery import Celery
from celery.utils.serialization import jsonify
from kombu.utils.encoding import safe_repr

OUT = os.path.join(os.path.dirname(__file__), '../worker/defaults.json')

for name in list(os.environ):
    if name.startswith('CELERY'):
        del os.environ[name]
table = jsonify(Celery('defaults', set_as_current=False).conf.table(with_defaults=True),
                keyfilter=lambda key: isinstance(key, str) and not key.startswith('__'), unknown_type_filter=safe_repr)
for name in 'broker_url', 'broker_read_url', 'broker_write_url', 'deprecated_settings':
    table[name] = None
with open(OUT, 'w') as f:
    json.dump(table, f, indent=1)
    f.write('\n')
