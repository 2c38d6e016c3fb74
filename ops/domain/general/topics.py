"""What the general domain asks about: topics of four kinds, each with words that hardly any answer can do without."""

from __future__ import annotations

from dataclasses import dataclass

from ops.domain.general.words import content_stems, stem


@dataclass(frozen=True)
class Kind:
    """Topics that are asked about in the same ways; ``{x}`` is the topic."""

    name: str
    questions: tuple[str, ...]
    topics: dict[str, frozenset[str]]
    """Topic -> stems of its own words and of those that go with it."""


def _topics(text: str) -> dict[str, frozenset[str]]:
    """Lines of ``topic: words that go with it``."""
    lines = (line.split(":") for line in text.strip().splitlines())
    return {topic.strip(): content_stems(topic) | frozenset(map(stem, words.split())) for topic, words in lines}


_THINGS = _topics("""
a volcano: lava magma erupts eruption mountain
a compass: north direction needle magnetic
a bicycle: wheels ride pedals bike
a telescope: stars lens distant planets
a rainbow: light colors sunlight rain
a passport: travel country document identity
a library: books read borrow
a bridge: river cross road structure
a battery: energy power electric charge
a thermometer: temperature heat hot
a lighthouse: ships light coast sea
a microscope: tiny small lens cells
a dictionary: words meaning definitions language
a calendar: days dates months year
a greenhouse: plants warm glass grow
a robot: machine tasks programmed
a refrigerator: food cold cool fresh
a piano: music keys play instrument
a map: places location directions
a clock: time hours minutes
a mirror: light reflects reflection image
a camera: photos pictures images light
a satellite: orbit space earth
a desert: dry sand rain hot
a glacier: ice snow cold
a magnet: iron metal magnetic attract
a windmill: wind energy power blades
a submarine: underwater ocean ship sea
a parachute: air fall slow jump
a helmet: head protect safety
an umbrella: rain dry sun
an elevator: floors building up lift
an island: water land sea
an atom: matter particles protons electrons
an orchestra: music musicians instruments
an airport: planes flights travel
""")

_IDEAS = _topics("""
photosynthesis: plants light energy sunlight
gravity: force mass pull earth
inflation: prices money economy
democracy: people vote government
evolution: species change time life
electricity: energy power current electrons
recycling: waste materials reuse
friendship: friends trust people support
teamwork: team together people work
patience: wait calm time
honesty: truth trust honest lies
curiosity: learn questions new curious
music: sound song listen melody
poetry: poems words language
history: past events people
geometry: shapes space lines
statistics: data numbers
advertising: products ads people customers
tourism: travel visit people places
farming: food crops land farmers
insurance: money risk pay protect
taxation: money government pay taxes
biology: life living organisms
chemistry: matter substances chemicals reactions
astronomy: stars planets space universe
architecture: buildings design
philosophy: questions life ideas knowledge
psychology: mind behavior people
nutrition: food healthy body nutrients
erosion: soil water wind rock
evaporation: water liquid gas vapor
pollution: air water environment harm
globalization: world countries trade
creativity: ideas new creative imagination
leadership: leader people team guide
stress: body pressure anxiety calm
""")

_GOALS = _topics("""
sleep better: bed night rest
save money: spend budget
drink more water: bottle hydrated
learn a new language: practice words speak
remember names: person repeat memory
wake up early: morning alarm bed sleep
make new friends: people meet talk
stay calm: breathe breath relax
get fit: exercise walk body
read more books: time pages reading
write a good letter: words clear reader
cook rice: water pot boil
bake bread: flour dough oven
grow tomatoes: plants water sun soil
train a dog: treats reward commands
clean a window: glass cloth water
pack a suitcase: clothes trip items
plan a trip: travel destination budget
prepare for an exam: study practice notes
give a speech: audience practice words
find a job: work skills resume apply
choose a gift: person like interests
keep a diary: write day thoughts
organize a desk: papers space things tidy
care for a cat: food water litter
fix a flat tire: wheel tube air
take good photos: light camera picture
play chess: pieces board game moves
swim faster: water stroke arms legs
draw a face: eyes nose lines
reduce food waste: leftovers plan store
use less energy: lights turn power
speak in public: audience practice words
focus at work: tasks time breaks
run a marathon: training pace miles
be a good neighbor: kind help respect
""")

_PAIRS = _topics("""
a lake and an ocean: water salt larger
a frog and a toad: skin water
a village and a city: people small large
tea and coffee: drink caffeine leaves beans
butter and oil: fat cooking
a novel and a poem: story words
a crocodile and an alligator: snout reptiles
weather and climate: long time temperature
a fruit and a vegetable: plant seeds
a comet and an asteroid: ice rock sun
a star and a planet: light sun orbit
a violin and a guitar: strings bow play
jam and honey: fruit bees sweet
a moth and a butterfly: wings night
a hill and a mountain: high tall land
a doctor and a nurse: patients medical care
a boat and a ship: water large small
bread and cake: flour sugar sweet
a debit card and a credit card: money bank pay
a virus and a bacterium: cells bacteria living
a dolphin and a shark: fish mammal
a wolf and a dog: animal wild pet
a rumor and a fact: true information
a hobby and a job: work money time enjoy
a pencil and a pen: ink write graphite
rain and snow: water frozen cold
a sofa and a chair: sit seat people
cotton and wool: sheep plant fabric
a turtle and a tortoise: land water shell
a king and a president: elected rule country
copper and gold: metal
a word and a sentence: meaning group
a question and an answer: ask information
running and walking: feet speed fast
a meal and a snack: food eat small
a friend and a colleague: work people
""")

KINDS = (
    Kind(
        "thing",
        (
            "What is {x}?",
            "What is {x} good for?",
            "How does {x} work?",
            "Explain {x} to a child.",
            "Why do people like {x}?",
            "Tell me something about {x}.",
        ),
        _THINGS,
    ),
    Kind(
        "idea",
        (
            "What is {x}?",
            "Why is {x} important?",
            "How would you explain {x}?",
            "Give me an example of {x}.",
            "What should I know about {x}?",
            "Tell me something about {x}.",
        ),
        _IDEAS,
    ),
    Kind(
        "goal",
        (
            "How can I {x}?",
            "Give me a tip: how do I {x}?",
            "Why should I {x}?",
            "What is a good way to {x}?",
            "What do I need to {x}?",
            "I want to {x}. Where do I start?",
        ),
        _GOALS,
    ),
    Kind(
        "pair",
        (
            "What is the difference between {x}?",
            "How can I tell {x} apart?",
            "What do {x} have in common?",
            "Compare {x}.",
            "Which do people need more, {x}?",
            "Explain the difference between {x} to a child.",
        ),
        _PAIRS,
    ),
)
