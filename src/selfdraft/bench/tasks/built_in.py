"""Prompts of our own over eight kinds of text: a benchmark that needs no file and no network.

The kinds differ in what makes drafting easy: copying from the prompt (summary, table), fixed form
(code, sums), and free invention (story, role). The first of each kind is used by `check`, too.
"""

BUILT_IN_BY_KIND: dict[str, tuple[str, ...]] = {
    "story": (
        "Write a short story about a lighthouse keeper who finds a message in a bottle.",
        "Tell the beginning of a tale in which a clock in a market town starts to run backwards.",
        "Write a fable about a heron and a tortoise who have to share one pond in a dry summer.",
    ),
    "sums": (
        "A shop sells pencils at 3 for 1.20 euros. How much do 14 pencils cost? Explain each step.",
        "A cyclist rides 18 km in 45 minutes, rests for 15 minutes and rides the 18 km back in one "
        "hour. What is the average speed of the whole trip? Show every step.",
        "A tank holds 240 litres. One pipe fills it in 6 hours, another empties it in 8. Both are "
        "open. How long does it take to fill the empty tank? Explain.",
    ),
    "code": (
        "Write a Python function that merges two sorted lists into one, with a docstring and a "
        "test.",
        "Write a Python class for a stack of whole numbers that also gives its minimum in constant "
        "time, with type hints and three tests.",
        "Rewrite this with early returns, and explain what you changed:\n\n"
        "def fee(age, member):\n"
        "    if member:\n"
        "        result = 0\n"
        "    elif age < 12:\n"
        "        result = 3\n"
        "    else:\n"
        "        result = 4 if age > 65 else 7\n"
        "    return result",
    ),
    "translation": (
        "Translate into French: The train to the coast leaves at nine, and the sea is calm today.",
        "Translate into German: My neighbour has kept bees for ten years, and every autumn he "
        "gives us a jar of honey.",
        "Translate into Spanish: If the bridge is closed, take the road along the river and turn "
        "left behind the mill.",
    ),
    "summary": (
        "Summarise in two sentences: Bees visit flowers for nectar. While they drink, pollen "
        "sticks to their hair and travels to the next flower, where it fertilises the seeds. "
        "Without bees many fruits would not grow, and farmers would have to carry pollen by hand.",
        "Summarise in one paragraph: The town council met on Tuesday about the old swimming hall. "
        "Its roof leaks, its boiler is from 1974, and heating it costs more each winter. Some "
        "members want to repair it at once, since schools teach swimming there. Others would build "
        "a new hall beside the sports ground, which would take four years and a loan. A survey "
        "among two thousand residents found a small majority for repair. The council will vote in "
        "March, after an engineer has looked at the foundations.",
        "Give the three main points of this text as a list: Tides are raised by the moon and, less "
        "strongly, by the sun. When both pull along one line, at new and full moon, high water is "
        "highest; these are spring tides. At half moon they pull at right angles, and the neap "
        "tides differ little. The shape of a coast matters as well: a bay that narrows can pile "
        "up the water many metres high, while an almost closed sea hardly notices the tide.",
    ),
    "questions": (
        "What is the difference between weather and climate? Answer for a ten-year-old.",
        "Why do ships made of steel float, although steel sinks? Explain in a few sentences.",
        "How does a vaccine prepare the body for an infection? Answer in plain words.",
    ),
    "tables": (
        "List the ingredients for a tomato soup for four people, with amounts, as a table.",
        "Make a table of the eight planets with the columns name, distance from the sun in "
        "astronomical units, and number of known moons.",
        'Turn this into JSON with the keys "name", "city" and "age", one object per person: Ida '
        "lives in Turin and is 34. Marek, 51, is from Brno. Chloe is 29 and lives in Ghent. Pavel, "
        "who is 40, lives in Brno, too.",
    ),
    "roles": (
        "You are the captain of a small ship in a storm. Speak to your crew and calm them down.",
        "You are a museum guide in front of a stone axe. Welcome a school class and tell them what "
        "they see.",
        "You are an old gardener. A neighbour asks why his roses have yellow leaves. Answer him.",
    ),
}
"""Prompts by kind of text."""
