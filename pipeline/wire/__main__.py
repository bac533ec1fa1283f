"""``python -m pipeline.wire docs/messages.schema.json`` writes the JSON Schema of all messages."""

import json
import sys
from pathlib import Path

from pipeline.wire.messages import json_schema

Path(sys.argv[1]).write_text(json.dumps(json_schema(), indent=2) + "\n")
