"""The reports of a registration: `report.json` and the self-contained `report.html`."""

from samreg.report.document import NOTICE, SCHEMA_VERSION, refusal_json, report_json, schema, write_json
from samreg.report.page import write_report

__all__ = ["NOTICE", "SCHEMA_VERSION", "refusal_json", "report_json", "schema", "write_json", "write_report"]
