% Defines the facts of a frame and how rules decide; loaded by every engine before the program of a rules file.
%
% A detection is d(Index, Number, Label, Score, X, Y, Width, Height) or, of a rotated box, with Length and Breadth behind:
% centre and sides in pixels. Index is its place in the order of X, from 1; Number is its place in the event, from 0.
% 'all detections'(Blocks) has all of them by Index, in blocks of 200: an engine takes no term of more than 255 arguments.
% Names with a space are those of this file; a rules file cannot call them.

'all detections'(none).
'the frame'(none).

'one detection'(D) :- nonvar(D), !.
'one detection'(D) :- 'the frame'(detections(N)), between(1, N, I), 'detection at'(I, D).

'detection at'(I, D) :-
    'all detections'(Blocks), B is (I - 1) // 200 + 1, P is (I - 1) mod 200 + 1, arg(B, Blocks, Block), arg(P, Block, D).

'other than'(D, E) :- arg(1, D, I), arg(1, E, J), I =\= J.

'fact detection'(D) :- 'one detection'(D).
'fact label'(D, Label) :- 'one detection'(D), arg(3, D, Label).
'fact confidence'(D, Score) :- 'one detection'(D), arg(4, D, Score).
'fact centre_px'(D, X, Y) :- 'one detection'(D), arg(5, D, X), arg(6, D, Y).
'fact centre'(D, X, Y) :-
    'one detection'(D), 'the frame'(frame_px(W, H)), arg(5, D, PX), arg(6, D, PY), X is PX / W, Y is PY / H.
'fact size_px'(D, W, H) :- 'one detection'(D), arg(7, D, W), arg(8, D, H).
'fact size_m'(D, W, H) :- 'the frame'(gsd_m(G)), 'fact size_px'(D, PW, PH), W is PW * G, H is PH * G.
'fact box_px'(D, X1, Y1, X2, Y2) :-
    'fact centre_px'(D, X, Y), 'fact size_px'(D, W, H),
    X1 is X - W / 2, Y1 is Y - H / 2, X2 is X + W / 2, Y2 is Y + H / 2.
'fact box'(D, X1, Y1, X2, Y2) :-
    'the frame'(frame_px(W, H)), 'fact box_px'(D, PX1, PY1, PX2, PY2),
    X1 is PX1 / W, Y1 is PY1 / H, X2 is PX2 / W, Y2 is PY2 / H.
'fact length_px'(D, L) :- 'one detection'(D), 'two sides'(D, A, B), L is max(A, B).
'fact breadth_px'(D, L) :- 'one detection'(D), 'two sides'(D, A, B), L is min(A, B).
'fact length_m'(D, L) :- 'the frame'(gsd_m(G)), 'fact length_px'(D, P), L is P * G.
'fact breadth_m'(D, L) :- 'the frame'(gsd_m(G)), 'fact breadth_px'(D, P), L is P * G.
'two sides'(d(_, _, _, _, _, _, A, B), A, B).
'two sides'(d(_, _, _, _, _, _, _, _, A, B), A, B).

% Detections are in the order of X, so others are looked for from one's own place to both sides, as far as needed.
'beside'(D, E, _) :- nonvar(E), !, 'other than'(D, E).
'beside'(D, E, Reach) :-
    arg(1, D, I), arg(5, D, X), 'all detections'(Blocks), B is (I - 1) // 200 + 1, P is (I - 1) mod 200 + 1,
    arg(B, Blocks, Block), 'on a side'(P, B, Block, Blocks, X, Reach, E).
'on a side'(P, _, Block, _, X, Reach, E) :-
    Next is P + 1, Most is X + Reach, functor(Block, _, Size), 'to the right'(Next, Size, Block, Most, E).
'on a side'(_, B, _, Blocks, X, Reach, E) :-
    Next is B + 1, Most is X + Reach, functor(Blocks, _, Last), between(Next, Last, Other), arg(Other, Blocks, Block),
    functor(Block, _, Size), 'to the right'(1, Size, Block, Most, E).
'on a side'(P, _, Block, _, X, Reach, E) :- Next is P - 1, Least is X - Reach, 'to the left'(Next, Block, Least, E).
'on a side'(_, B, _, Blocks, X, Reach, E) :-
    Before is B - 1, Least is X - Reach, between(1, Before, Other), arg(Other, Blocks, Block), functor(Block, _, Size),
    'to the left'(Size, Block, Least, E).
'to the right'(P, Size, Block, Most, E) :-
    P =< Size, arg(P, Block, One), arg(5, One, X), X =< Most,
    ( E = One ; Next is P + 1, 'to the right'(Next, Size, Block, Most, E) ).
'to the left'(P, Block, Least, E) :-
    P >= 1, arg(P, Block, One), arg(5, One, X), X >= Least,
    ( E = One ; Next is P - 1, 'to the left'(Next, Block, Least, E) ).

'fact near_px'(D, E, Most) :-
    'one detection'(D), Limit is Most, arg(5, D, X), arg(6, D, Y), 'beside'(D, E, Limit), arg(5, E, EX), arg(6, E, EY),
    (EX - X) * (EX - X) + (EY - Y) * (EY - Y) =< Limit * Limit.
'fact near_m'(D, E, Most) :- 'the frame'(gsd_m(G)), Limit is Most / G, 'fact near_px'(D, E, Limit).
'fact distance_px'(D, E, Pixels) :-
    'one detection'(D), 'one detection'(E), 'other than'(D, E), arg(5, D, X), arg(6, D, Y), arg(5, E, EX), arg(6, E, EY),
    Pixels is sqrt((EX - X) * (EX - X) + (EY - Y) * (EY - Y)).
'fact distance_m'(D, E, Metres) :- 'the frame'(gsd_m(G)), 'fact distance_px'(D, E, Pixels), Metres is Pixels * G.
'fact overlap'(D, E, IoU) :-
    'shared area'(D, E, Shared), arg(7, D, W), arg(8, D, H), arg(7, E, EW), arg(8, E, EH),
    IoU is Shared / (W * H + EW * EH - Shared).
'fact within'(D, E, Share) :- 'shared area'(D, E, Shared), arg(7, D, W), arg(8, D, H), Share is Shared / (W * H).
'shared area'(D, E, Shared) :-
    'one detection'(D), 'the frame'(widest(Widest)), arg(5, D, X), arg(6, D, Y), arg(7, D, W), arg(8, D, H),
    Reach is (W + Widest) / 2, 'beside'(D, E, Reach), arg(5, E, EX), arg(6, E, EY), arg(7, E, EW), arg(8, E, EH),
    SW is min(X + W / 2, EX + EW / 2) - max(X - W / 2, EX - EW / 2), SW > 0,
    SH is min(Y + H / 2, EY + EH / 2) - max(Y - H / 2, EY - EH / 2), SH > 0,
    Shared is SW * SH.
'fact at_edge'(D) :-
    'fact box_px'(D, X1, Y1, X2, Y2), 'the frame'(frame_px(W, H)), 'is at edge'(X1, Y1, X2, Y2, W, H), !.
'is at edge'(X1, _, _, _, _, _) :- X1 < 1.
'is at edge'(_, Y1, _, _, _, _) :- Y1 < 1.
'is at edge'(_, _, X2, _, W, _) :- X2 > W - 1.
'is at edge'(_, _, _, Y2, _, H) :- Y2 > H - 1.

'fact frame_px'(W, H) :- 'the frame'(frame_px(W, H)).
'fact detections'(N) :- 'the frame'(detections(N)).
'fact gsd_m'(G) :- 'the frame'(gsd_m(G)).
'fact device'(Name) :- 'the frame'(device(Name)).
'fact flight'(Name) :- 'the frame'(flight(Name)).
'fact place'(Latitude, Longitude) :- 'the frame'(place(Latitude, Longitude)).
'fact altitude_m'(Metres) :- 'the frame'(altitude_m(Metres)).
'fact heading'(Degrees) :- 'the frame'(heading(Degrees)).
'fact pitch'(Degrees) :- 'the frame'(pitch(Degrees)).
'fact date'(Year, Month, Day) :- 'the frame'(date(Year, Month, Day)).
'fact time'(Hour, Minute, Second) :- 'the frame'(time(Hour, Minute, Second)).
'fact weekday'(Day) :- 'the frame'(weekday(Day)).
'fact model'(Name, Version) :- 'the frame'(model(Name, Version)).
'fact video'(Source, Seconds) :- 'the frame'(video(Source, Seconds)).
'fact metadata'(Key, Value) :- 'the frame'(metadata(Key, Value)).

% Of the engines' own, one takes no number to make an atom of.
'atom of number'(Atom, Number) :- nonvar(Atom), !, atom_number(Atom, Number).
'atom of number'(Atom, Number) :- number(Number), number_codes(Number, Codes), atom_codes(Atom, Codes).

'collected'(count, Goal, Number) :- findall(x, Goal, Found), length(Found, Number).
'collected'(sum(Term), Goal, Sum) :- findall(Term, Goal, Found), 'sum of'(Found, 0, Sum).
'collected'(max(Term), Goal, Most) :- findall(Term, Goal, [First|Found]), Start is First, 'most of'(Found, Start, Most).
'collected'(min(Term), Goal, Least) :- findall(Term, Goal, [First|Found]), Start is First, 'least of'(Found, Start, Least).
'collected'(bag(Term), Goal, Found) :- findall(Term, Goal, Found).
'collected'(set(Term), Goal, Set) :- findall(Term, Goal, Found), sort(Found, Set).
'sum of'([], Sum, Sum).
'sum of'([Term|Terms], Before, Sum) :- Next is Before + Term, 'sum of'(Terms, Next, Sum).
'most of'([], Most, Most).
'most of'([Term|Terms], Before, Most) :- Next is max(Before, Term), 'most of'(Terms, Next, Most).
'least of'([], Least, Least).
'least of'([Term|Terms], Before, Least) :- Next is min(Before, Term), 'least of'(Terms, Next, Least).

% A rule says that it is tried; only while the line of a rule that runs too long is looked for, that is written.
'trying rule'(_, _).

'decide on frame' :-
    read(frame(Traced, Facts, Blocks)), 'note frame'(Facts, Blocks), 'note whether traced'(Traced),
    catch('decide on detections', Error, 'write error'(Error)), nl, write(done), nl.

'note frame'(Facts, Blocks) :-
    retract('all detections'(_)), !, assertz('all detections'(Blocks)), retractall('the frame'(_)), 'note facts'(Facts).
'note facts'([]).
'note facts'([Fact|Facts]) :- assertz('the frame'(Fact)), 'note facts'(Facts).
% The frame before may have been traced, and this one not.
'note whether traced'(Traced) :- retract(('trying rule'(_, _) :- _)), !, 'note how rules are tried'(Traced).
'note how rules are tried'(no) :- assertz('trying rule'(_, _)).
'note how rules are tried'(yes) :-
    assertz(('trying rule'(Rule, D) :- arg(2, D, Number), write(trying), put_char(' '), write(Rule), put_char(' '),
        write(Number), nl)).

'decide on detections' :- 'one detection'(D), 'decide'(D), fail.
'decide on detections'.
'decide'(D) :- 'the rule'(Rule, D, Ruling), !, arg(2, D, Number), 'write ruling'(Ruling, Rule, Number).
'write ruling'(Ruling, Rule, Number) :- var(Ruling), !, throw(no_ruling(Rule, Number)).
'write ruling'(confirm, Rule, Number) :- !, 'write words'([confirm, Rule, Number]).
'write ruling'(drop, Rule, Number) :- !, 'write words'([drop, Rule, Number]).
'write ruling'(relabel(Label), Rule, Number) :-
    ( atom(Label), \+ sub_atom(Label, _, 1, _, '\n') -> 'write words'([relabel, Rule, Number, Label])
    ; throw(no_label(Label, Rule, Number)) ).
'write words'([Word]) :- !, write(Word), nl.
'write words'([Word|Words]) :- write(Word), put_char(' '), 'write words'(Words).
'write error'(Error) :- nl, write(error), put_char(' '), writeq(Error), nl.
