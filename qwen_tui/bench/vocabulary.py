"""Common English words, most of which are one token each in most models: what random prompts are made of."""

from __future__ import annotations

_TEXT = """
    the of and to in is for that on with as are this be at by from have or an was it not you but all can will one
    we they their has more if about which when there what so out up who get new some time been other would like just
    people year work how than them first also could these know good only way over most after think into because
    use her two may see many now then make well even back any through world life day between should before right
    still own under while last might great must big old part place case week company system program question
    government number night point home water room mother area money story fact month lot study book eye job word
    business issue side kind head house service friend father power hour game line end member law car city
    community name president team minute idea body information parent face others level office door health person
    art war history party result change morning reason research girl guy moment air teacher force education food
    music river table paper window color light sound winter summer garden letter market doctor nature voice figure
    street family animal station engine machine science language number village island mountain forest ocean space
    earth fire stone wood metal glass gold silver iron bread coffee sugar salt fruit tree flower grass bird fish
    horse dog cat king queen army battle peace dream hope love fear anger joy truth secret plan rule order list
    price trade bank card check bill cost value sale shop store product customer report record data file code test
    model design image picture film radio phone computer network screen button key map road bridge train plane ship
    north south east west left high low long short wide deep small large young early late fast slow hard soft warm
    cold dry clean dark bright strong weak rich poor free open close simple clear common public private local
    national foreign modern ancient natural human social legal medical physical special general single double
    whole half full empty ready sure true false real possible important different similar certain recent final
    main major minor extra basic central current future past present daily weekly annual total average maximum
"""
WORDS: tuple[str, ...] = tuple(_TEXT.split())
