"""Which data blocks are believed: the one table that decides, whatever the line did to them.

Source: IEC 62056-21:2002, 5 (block check), DSMR P1 5.0.2, 6.2 (CRC). A BCC is eight bits of exclusive or, which two
equal lost characters pass, and a push of mode D has no check at all. What stands in for the missing bits is the *form*:
the identification, each address and unit, and each value but for its digits. It is compared with the last block's.

    check  asked  the block                                       the form           verdict
    -----  -----  ----------------------------------------------  -----------------  --------------------------------
    none   yes    any                                             any                "no checksum"
    none   no     of a P1 version, or an identification, that     any                "no checksum"
                  has shown a check
    none   no     a line is no data sets, a control character,    any                "line"
                  an address that is none, a unit without number
    BCC    any    a line is no data sets and there is no !, or    any                "line"
                  a control character
    any    any    no data set                                     any                "no data"
    BCC    yes    no !                                            any                "shape"
    CRC    no     any                                             any                taken, vouched
    BCC    no     its driver knows that forms differ              any                taken, vouched
    none   any    any                                             as the last one    taken, vouched
    BCC    any    any                                             as the last one    taken, vouched
    none   any    the first one, on a line without faults         any                taken, not vouched
    BCC    any    the first one, on a line without faults         any                taken, vouched
    BCC    no     of another identification, no parity bits       any                taken, vouched
    none   any    any                                             another            "shape": twice, and it is taken
    BCC    any    any                                             another            "shape": twice, and it is taken

Parity bits tell a line from a file: there no new identification is believed at once, as a damaged one is new too. A CRC
that is asked for follows the row of a CRC that is not. Two forms are known at a time, as meters may send two lists in
turn; one that has come once only is forgotten behind _PATIENCE blocks of the other.
"""

from metering.compat import const

_BCC = const(8)  # bits
_CRC = const(16)
_NONE = const(-1)
_PATIENCE = const(2)


class AcceptancePolicy:
    """Remembers the last forms and identifications; allocates nothing.

    `vouched`: is there a check of the values taken last, or a block of the same form before it?
    """

    def __init__(self):
        self.vouched = False
        self._checked_ident = _NONE  # whose blocks carry a check
        self._form = self._ident = _NONE  # of the block taken last
        self._other_form = _NONE  # waits to come again, or has been taken before
        self._age = 0  # blocks since then

    def verdict(self, check, asked, parity, compares, ident, sets, is_faultless):
        """The reason why the block is not taken, "" where it is.

        `check`: how many bits the check has that held, 16 for a CRC, 8 for a BCC, 0 for none. `ident`: a checksum of
        the identification line; `sets`: the block's DataSets.

        `asked`: must it have a check? `parity`: has each character a parity bit, and an even one? `compares` False:
        forms differ from block to block, and that is known. `is_faultless`: has nothing been rejected on this line yet?
        """
        if not check:
            if asked or sets.must_check or ident == self._checked_ident:
                return "no checksum"
            if sets.n_strays or not sets.is_printable() or not sets.is_clean():
                return "line"
        else:
            if check == _BCC and (sets.n_strays and not sets.end_seen or not sets.is_printable()):
                return "line"
            self._checked_ident = ident
        if not sets.n_sets:
            return "no data"
        if check == _BCC and asked and not sets.end_seen:
            return "shape"
        self.vouched = True
        if check == _CRC or check == _BCC and not (compares or asked):
            return ""
        form = sets.form(ident)
        if self._is_known(form):
            self._ident = ident
            return ""
        is_first = self._form == _NONE and is_faultless
        if is_first or check == _BCC and not (asked or parity) and ident != self._ident:
            self.vouched = check == _BCC
            self._form = form
            self._ident = ident
            return ""
        self._other_form = form
        self._age = 0
        return "shape"

    def _is_known(self, form):
        if form == self._form:
            if self._age < _PATIENCE:
                self._age += 1
            else:
                self._other_form = _NONE
            return True
        if form == self._other_form:
            self._other_form = self._form
            self._form = form
            self._age = 0
            return True
        return False
