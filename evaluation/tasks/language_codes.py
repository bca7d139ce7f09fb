"""Maps two-letter language codes (ISO 639-1) to the three-letter codes (ISO 639-3) that mteb's tasks declare.

Source of the pairs: https://iso639-3.sil.org/code_tables/639/data (macrolanguages as mteb 2.26 writes them).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_PAIRS: Final = (
    "af afr am amh ar ara as asm az aze be bel bg bul bn ben bs bos ca cat cs ces cy cym da dan de deu el ell en eng "
    "eo epo es spa et est eu eus fa fas fi fin fr fra ga gle gl glg gu guj ha hau he heb hi hin hr hrv hu hun hy hye "
    "id ind ig ibo is isl it ita ja jpn jv jav ka kat kk kaz km khm kn kan ko kor ku kur ky kir la lat lo lao lt lit "
    "lv lav mk mkd ml mal mn mon mr mar ms msa mt mlt my mya nb nob ne nep nl nld nn nno no nor or ory pa pan pl pol "
    "ps pus pt por ro ron ru rus rw kin sd snd si sin sk slk sl slv so som sq sqi sr srp su sun sv swe sw swa ta tam "
    "te tel tg tgk th tha tk tuk tl tgl tr tur tt tat uk ukr ur urd uz uzb vi vie xh xho yi yid yo yor zh zho zu zul"
)

THREE_LETTER_CODES: Final[Mapping[str, str]] = dict(zip(_PAIRS.split()[::2], _PAIRS.split()[1::2], strict=True))
