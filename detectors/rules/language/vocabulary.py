"""Lists what rules may call: the facts of a frame, and predicates of Prolog that need no files and keep no state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Signature: TypeAlias = tuple[str, int]

RULE: Signature = ("rule", 3)
"""What a rules file defines."""


@dataclass(frozen=True, slots=True)
class FactPredicate:
    """Describes a predicate that tells something about a frame or about one of its detections."""

    name: str
    arguments: tuple[str, ...]
    about: str
    of_detection: bool = True
    """Whether the first argument is a detection."""

    @property
    def signature(self) -> Signature:
        return self.name, len(self.arguments)

    @property
    def call(self) -> str:
        """Return a call of it, as it is written in a rule."""
        return f"{self.name}({', '.join(self.arguments)})" if self.arguments else self.name


def _of_detection(name: str, arguments: str, about: str) -> FactPredicate:
    return FactPredicate(name, tuple(arguments.split()), about)


def _of_frame(name: str, arguments: str, about: str) -> FactPredicate:
    return FactPredicate(name, tuple(arguments.split()), about, of_detection=False)


FACTS: tuple[FactPredicate, ...] = (
    _of_detection("detection", "D", "D is a detection of the frame"),
    _of_detection("label", "D Label", "what the model calls D"),
    _of_detection("confidence", "D Score", "the model's score of D, 0 to 1"),
    _of_detection("box", "D X1 Y1 X2 Y2", "the corners of D's box, as shares of the frame's width and height, 0 to 1"),
    _of_detection("box_px", "D X1 Y1 X2 Y2", "the corners of D's box in pixels"),
    _of_detection("centre", "D X Y", "the centre of D, as shares of the frame's width and height"),
    _of_detection("centre_px", "D X Y", "the centre of D in pixels"),
    _of_detection("size_px", "D Width Height", "the sides of D's box in pixels"),
    _of_detection("size_m", "D Width Height", "the sides of D's box in metres on the ground"),
    _of_detection("length_px", "D Length", "the longer side of D in pixels; of a rotated box along that box"),
    _of_detection("length_m", "D Length", "the longer side of D in metres on the ground"),
    _of_detection("breadth_px", "D Breadth", "the shorter side of D in pixels; of a rotated box across that box"),
    _of_detection("breadth_m", "D Breadth", "the shorter side of D in metres on the ground"),
    _of_detection("near_px", "D E Most", "E is another detection whose centre is at most so many pixels from D's"),
    _of_detection("near_m", "D E Most", "E is another detection whose centre is at most so many metres from D's"),
    _of_detection("distance_px", "D E Pixels", "how far the centres of D and another detection E are apart"),
    _of_detection("distance_m", "D E Metres", "how far the centres of D and another detection E are apart"),
    _of_detection("overlap", "D E IoU", "the boxes of D and another detection E overlap, by IoU (above 0, to 1)"),
    _of_detection("within", "D E Share", "which share of D's box is inside that of another detection E (above 0)"),
    _of_detection("at_edge", "D", "D's box touches the edge of the frame, so a part of the object may be missing"),
    _of_frame("frame_px", "Width Height", "the sides of the frame in pixels"),
    _of_frame("detections", "Number", "how many detections the frame has"),
    _of_frame("gsd_m", "Metres", "how many metres on the ground a pixel shows"),
    _of_frame("device", "Name", "the device that took the frame"),
    _of_frame("flight", "Name", "the flight that the frame belongs to"),
    _of_frame("place", "Latitude Longitude", "where the camera was, in degrees; south and west are negative"),
    _of_frame("altitude_m", "Metres", "the height of the camera above the ground"),
    _of_frame("heading", "Degrees", "where the top of the frame points to, clockwise from north"),
    _of_frame("pitch", "Degrees", "where the camera looks; -90 is straight down"),
    _of_frame("date", "Year Month Day", "the day of the capture, UTC"),
    _of_frame("time", "Hour Minute Second", "the time of the capture, UTC"),
    _of_frame("weekday", "Day", "the day of the week of the capture, UTC: 1 is Monday, 7 is Sunday"),
    _of_frame("model", "Name Version", "the model that found the detections"),
    _of_frame("video", "Source Seconds", "the video that the frame is from, and the time in it"),
    _of_frame("metadata", "Key Value", "what the device sent with the frame: texts, numbers, true and false"),
)
"""What is known about a frame. A fact that is not known has no solution: the condition fails."""

FACT_BY_SIGNATURE: Mapping[Signature, FactPredicate] = {fact.signature: fact for fact in FACTS}

ArgumentKind = Literal["data", "goal", "template_goal", "expression"]
"""data; a goal, or with n more arguments a closure; a goal after ``Variable^``; an arithmetic expression."""


@dataclass(frozen=True, slots=True)
class Argument:
    """Says what an argument of a predicate of Prolog is; ``added``: how many arguments a call of the goal adds."""

    kind: ArgumentKind = "data"
    added: int = 0


def _words(text: str) -> list[str]:
    return text.split()


_DATA, _EXPRESSION = Argument(), Argument("expression")
_GOAL, _TEMPLATE_GOAL = Argument("goal"), Argument("template_goal")

BUILTINS: Mapping[Signature, tuple[Argument, ...]] = {
    **{(name, 2): (_GOAL, _GOAL) for name in (",", ";", "->", "forall")},
    **{(name, 1): (_GOAL,) for name in ("\\+", "not", "once", "ignore")},
    **{(name, 0): () for name in ("true", "fail", "false", "!")},
    **{
        (name, number): (_DATA,) * number
        for number, names in (
            (1, "var nonvar atom number integer float atomic compound is_list ground callable"),
            (2, "= \\= == \\== @< @> @=< @>= length member memberchk reverse last msort sort =.. atom_length"),
            (2, "atom_chars atom_codes char_code atom_number sum_list max_list min_list keysort copy_term succ"),
            (2, "list_to_set"),
            (3, "compare functor arg append nth0 nth1 select subtract atom_concat between plus"),
            (5, "sub_atom"),
        )
        for name in names.split()
    },
    ("is", 2): (_DATA, _EXPRESSION),
    **{(name, 2): (_EXPRESSION, _EXPRESSION) for name in ("=:=", "=\\=", "<", ">", "=<", ">=")},
    ("findall", 3): (_DATA, _GOAL, _DATA),
    ("bagof", 3): (_DATA, _TEMPLATE_GOAL, _DATA),
    ("setof", 3): (_DATA, _TEMPLATE_GOAL, _DATA),
    ("aggregate_all", 3): (_DATA, _GOAL, _DATA),
    **{("call", added + 1): (Argument("goal", added), *(_DATA,) * added) for added in range(8)},
    **{("maplist", added + 1): (Argument("goal", added), *(_DATA,) * added) for added in range(1, 5)},
    **{(name, 3): (Argument("goal", 1), _DATA, _DATA) for name in ("include", "exclude")},
    ("foldl", 4): (Argument("goal", 3), _DATA, _DATA, _DATA),
}
"""The predicates of Prolog that rules may call, and what their arguments are."""

AGGREGATES: frozenset[Signature] = frozenset((("count", 0), ("sum", 1), ("max", 1), ("min", 1), ("bag", 1), ("set", 1)))
"""What aggregate_all collects."""

EVALUABLE: frozenset[Signature] = frozenset(
    (
        *((name, 0) for name in ("pi", "e")),
        *((name, 1) for name in _words("- + abs sign min max sqrt sin cos tan asin acos atan exp log")),
        *((name, 1) for name in _words("float integer truncate round ceiling floor")),
        *((name, 2) for name in _words("+ - * / // mod rem min max ** ^ atan2 << >> /\\ \\/")),
    )
) - {("min", 1), ("max", 1)}
"""What arithmetic knows: nothing random, no clock, so that the same frame always gets the same rulings."""

_REASONS: Mapping[str, str] = {
    "rules have no files": "open close see seen tell told append consult load_files exists_file exists_directory "
    "delete_file rename_file directory_files read_file_to_terms read_file_to_string read_term_from_file use_module "
    "ensure_loaded working_directory make_directory absolute_file_name savefile getfile",
    "rules reach no program and no network": "shell system process_create fork exec kill getenv setenv tcp_connect "
    "tcp_socket http_open server client http_get host_call js_eval js_fetch wait popen4 load_foreign_library "
    "use_foreign_library",
    "rules keep nothing: every frame begins with its facts alone": "assert asserta assertz retract retractall abolish "
    "dynamic discontiguous nb_setval b_setval nb_getval b_getval flag op set_prolog_flag recorda recordz recorded "
    "initialization table gensym term_to_atom read_term_from_atom",
    "rules neither print nor read; `standgale rules try` shows what they do": "write writeln print write_canonical "
    "writeq write_term format nl put_char tab read read_term get_char peek_char portray_clause listing",
    "the same frame always gets the same rulings; date and time are those of the capture": "random random_between "
    "random_member random_permutation set_random get_time statistics sleep now",
    "it is not needed in rules": "catch throw setup_call_cleanup call_cleanup halt abort thread_create freeze when dif "
    "clause current_predicate predicate_property *-> call_with_time_limit call_with_inference_limit",
}
REFUSED: Mapping[str, str] = {name: reason for reason, names in _REASONS.items() for name in _words(names)}
"""Why well-known predicates of Prolog are not there."""
