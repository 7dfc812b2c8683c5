"""Writes the SQL of a query: constants of this module and the fields' columns; every value is a parameter."""

from __future__ import annotations

from dataclasses import dataclass, field

from console.datasets.query.fields import FIELDS, Value
from console.datasets.query.language import All, Any, Comparison, Not, Query

# The sides of a corrected box, as JSON: x1, y1, x2, y2 from 0 to 1, with an area; NULL where it has none such.
_FOUR = (
    "(CASE jsonb_typeof(corrected_bbox) WHEN 'array' THEN corrected_bbox ELSE jsonb_build_array(corrected_bbox->'x1', "
    "corrected_bbox->'y1', corrected_bbox->'x2', corrected_bbox->'y2') END)"
)
_SIDES = f"""(CASE WHEN jsonb_array_length({_FOUR}) <> 4
    OR jsonb_path_exists({_FOUR}, '$[*] ? (@.type() != "number" || @ < 0 || @ > 1)') THEN NULL
    WHEN round(({_FOUR}->>0)::numeric, 6) < round(({_FOUR}->>2)::numeric, 6)
    AND round(({_FOUR}->>1)::numeric, 6) < round(({_FOUR}->>3)::numeric, 6) THEN {_FOUR}::text END)"""
# One row per picture and box; of a picture without boxes one row without box. Its boxes are those of the newest session
# that succeeded, but of one whose boxes people have corrected before others. The newest correction of a box counts.
_SELECT = f"""
SELECT i.id, d.device_id, i.flight_id, i.captured_at, i.sha256, i.image_uri, i.size_bytes, i.width, i.height, i.format,
    s.model_name, s.model_version, b.id AS box_id, b.label, b.confidence, b.x1, b.y1, b.x2, b.y2, b.corners,
    b.corrected_bbox, b.by_person, u.unusable
FROM images i
JOIN devices d ON d.id = i.device_id
LEFT JOIN jobs j ON j.id = i.job_id
LEFT JOIN LATERAL (
    SELECT n.id, n.model_name, n.model_version FROM inference_sessions n
    WHERE n.image_id = i.id AND n.status = 'success' AND ($3::boolean OR n.job_id IS NULL)
        AND ($1::text IS NULL OR n.model_name = $1) AND ($2::text IS NULL OR n.model_version = $2)
    ORDER BY EXISTS (
        SELECT FROM data_annotations a JOIN detections t ON t.id = a.detection_id
        WHERE a.image_id = i.id AND t.session_id = n.id
    ) DESC, n.completed_at DESC NULLS LAST, n.id LIMIT 1
) s ON true
LEFT JOIN LATERAL (
    SELECT found.*, count(*) OVER () AS boxes FROM (
        SELECT t.id, coalesce(a.corrected_label, t.label) AS label,
            CASE WHEN a.corrects THEN 1::real ELSE t.confidence END AS confidence,
            t.bbox_x1 AS x1, t.bbox_y1 AS y1, t.bbox_x2 AS x2, t.bbox_y2 AS y2, t.corners,
            a.sides AS corrected_bbox, coalesce(a.corrects, false) AS by_person
        FROM detections t
        LEFT JOIN LATERAL (
            SELECT annotation_type, corrected_label, {_SIDES} AS sides,
                corrected_label IS NOT NULL OR {_SIDES} IS NOT NULL AS corrects
            FROM data_annotations WHERE detection_id = t.id
            ORDER BY annotated_at DESC, id DESC LIMIT 1
        ) a ON true
        WHERE t.image_id = i.id AND t.session_id = s.id AND a.annotation_type IS DISTINCT FROM 'false_positive'
        UNION ALL
        SELECT a.id, a.corrected_label, 1::real, NULL, NULL, NULL, NULL, NULL, {_SIDES}, true
        FROM data_annotations a
        WHERE a.image_id = i.id AND a.detection_id IS NULL AND a.annotation_type = 'missed_detection'
            AND a.corrected_label IS NOT NULL AND {_SIDES} IS NOT NULL
    ) found
) b ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS unusable FROM data_annotations
    WHERE image_id = i.id AND annotation_type <> 'false_positive'
        AND nullif(corrected_bbox, 'null'::jsonb) IS NOT NULL AND {_SIDES} IS NULL
) u ON true
WHERE (s.id IS NOT NULL OR b.id IS NOT NULL) AND ($3::boolean OR i.job_id IS NULL) AND
"""  # noqa: S608 (a constant)
_ORDER = "ORDER BY i.captured_at, i.id, b.id"


@dataclass(slots=True)
class Statement:
    """Holds the text of a statement, and the values of its parameters."""

    text: str = ""
    values: list[object] = field(default_factory=list)

    def place(self, value: object) -> str:
        """Add a value; return what stands for it in the text."""
        self.values.append(value)
        return f"${len(self.values)}"


def write_statement(
    query: Query, model: str | None = None, version: str | None = None, *, jobs: bool = False
) -> Statement:
    """Return the statement that selects what ``query`` asks for, from the newest session of ``model`` if given.

    What belongs to jobs and media is their clients' and left out, unless ``jobs`` is true or the query names a job.
    """
    statement = Statement(values=[model, version, jobs or _names_job(query)])
    condition = _condition(statement, query)
    statement.text = f"{_SELECT}{condition}\n{_ORDER}"
    return statement


def _names_job(query: Query) -> bool:
    if isinstance(query, Comparison):
        return query.field == "job"
    parts = (query.part,) if isinstance(query, Not) else query.parts
    return any(map(_names_job, parts))


def _condition(statement: Statement, query: Query) -> str:
    if isinstance(query, Not):
        return f"NOT ({_condition(statement, query.part)})"
    if isinstance(query, All):
        return _joined(statement, query.parts, "AND") or "TRUE"
    if isinstance(query, Any):
        return _joined(statement, query.parts, "OR") or "FALSE"
    return _comparison(statement, query)


def _joined(statement: Statement, parts: tuple[Query, ...], word: str) -> str:
    return f" {word} ".join(f"({_condition(statement, part)})" for part in parts)


def _comparison(statement: Statement, comparison: Comparison) -> str:
    found = FIELDS[comparison.field]
    if comparison.operator == "in":
        values: list[Value] = list(comparison.values)
        return f"{found.column} = ANY({statement.place(values)}::{found.parameter}[])"
    operator = "<>" if comparison.operator == "!=" else comparison.operator
    return f"{found.column} {operator} {statement.place(comparison.values[0])}::{found.parameter}"
