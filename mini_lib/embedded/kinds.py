"""What the photo CLIP is told about photographs: the names of Tiny ImageNet's 200 kinds, and wider words for them.

A line: the kind's WordNet number: its names | wider words that hold for it, from near to far | comparisons. The names are
WordNet's, without those that mean something else to most readers; the wider words are ours, in the manner of WordNet's
hypernyms. A comparison names a thing that is not among the 200 kinds ("animal like a deer"): true of the kind, and all
that the CLIP ever hears of that thing.
"""

TABLE = """
n01443537: goldfish | fish, water animal, animal
n01629819: fire salamander, European fire salamander, salamander | amphibian, animal | animal like a lizard
n01641577: bullfrog | frog, amphibian, animal
n01644900: tailed frog, bell toad, ribbed toad | frog, toad, amphibian, animal
n01698640: alligator, American alligator | crocodilian, reptile, animal | animal like a crocodile
n01742172: boa constrictor, boa | snake, reptile, animal
n01768244: trilobite | fossil, arthropod
n01770393: scorpion | arachnid, arthropod, animal
n01774384: black widow | spider, arachnid, arthropod, animal
n01774750: tarantula | spider, arachnid, arthropod, animal
n01784675: centipede | arthropod, animal
n01855672: goose | water bird, bird, animal | bird like a duck, bird like a swan
n01882714: koala, koala bear | marsupial, mammal, furry animal, animal | relative of the kangaroo
n01910747: jellyfish | sea animal, water animal, animal
n01917289: brain coral | coral, sea animal, water animal, animal
n01944390: snail | mollusc, animal
n01945685: slug | mollusc, animal
n01950731: sea slug, nudibranch | mollusc, sea animal, water animal, animal
n01983481: American lobster, Maine lobster, lobster | crustacean, seafood, sea animal, animal | animal like a crab
n01984695: spiny lobster, rock lobster, langouste, crayfish, crawfish | crustacean, seafood, sea animal, animal | animal like a crab
n02002724: black stork, stork | wading bird, bird, animal | bird like a heron, bird like an ibis, bird like a flamingo
n02056570: king penguin, penguin | sea bird, bird, animal
n02058221: albatross | sea bird, bird, animal | bird like a gull, flying thing like an airplane
n02074367: dugong | sea animal, water animal, mammal, animal | animal like a seal, animal like a dolphin
n02085620: Chihuahua | toy dog, dog, pet, mammal, animal
n02094433: Yorkshire terrier, terrier | toy dog, dog, pet, mammal, animal
n02099601: golden retriever, retriever | hunting dog, dog, pet, mammal, animal
n02099712: Labrador retriever, Labrador, retriever | hunting dog, dog, pet, mammal, animal
n02106662: German shepherd, German shepherd dog, alsatian | shepherd dog, dog, pet, mammal, animal | animal like a wolf
n02113799: standard poodle, poodle | dog, pet, mammal, animal
n02123045: tabby, tabby cat | house cat, cat, pet, mammal, animal
n02123394: Persian cat, Persian | house cat, cat, pet, mammal, animal
n02124075: Egyptian cat | house cat, cat, pet, mammal, animal
n02125311: cougar, puma, mountain lion | big cat, wild animal, mammal, animal | animal like a leopard
n02129165: lion | big cat, wild animal, mammal, animal | animal like a tiger
n02132136: brown bear | bear, wild animal, mammal, animal
n02165456: ladybug, ladybird, lady beetle | beetle, insect, arthropod, animal
n02190166: fly | insect, arthropod, animal
n02206856: bee | insect, arthropod, animal
n02226429: grasshopper | insect, arthropod, animal
n02231487: walking stick insect, stick insect | insect, arthropod, animal
n02233338: cockroach, roach | insect, arthropod, animal
n02236044: mantis, praying mantis | insect, arthropod, animal
n02268443: dragonfly | insect, arthropod, animal
n02279972: monarch butterfly, monarch | butterfly, insect, arthropod, animal
n02281406: sulphur butterfly | butterfly, insect, arthropod, animal
n02321529: sea cucumber | sea animal, water animal, animal | relative of the starfish
n02364673: guinea pig | rodent, pet, furry animal, mammal, animal | animal like a hamster
n02395406: hog, pig | farm animal, hoofed animal, mammal, animal
n02403003: ox | cattle, farm animal, hoofed animal, mammal, animal | animal like a cow, hoofed animal like a horse
n02410509: bison | wild animal, hoofed animal, mammal, animal | animal like a cow, hoofed animal like a horse
n02415577: bighorn, bighorn sheep | sheep, wild animal, hoofed animal, mammal, animal | animal like a goat, hoofed animal like a deer
n02423022: gazelle | antelope, wild animal, hoofed animal, mammal, animal | animal like a deer, hoofed animal like a deer
n02437312: Arabian camel, dromedary | camel, hoofed animal, mammal, animal | relative of the llama, animal to ride like a horse
n02480495: orangutan | ape, primate, mammal, animal | animal like a gorilla
n02481823: chimpanzee, chimp | ape, primate, mammal, animal | animal like a gorilla
n02486410: baboon | monkey, primate, mammal, animal
n02504458: African elephant | elephant, wild animal, mammal, animal
n02509815: red panda, lesser panda | furry animal, wild animal, mammal, animal | animal like a raccoon
n02666196: abacus | calculator, instrument
n02669723: academic gown, academic robe | gown, robe, clothes, clothing
n02699494: altar | church interior, religious place, indoor scene
n02730930: apron | kitchen clothing, clothes, clothing
n02769748: backpack, knapsack, rucksack | bag, luggage
n02788148: bannister, balustrade, handrail | railing, part of a building
n02793495: barn | farm building, building, structure | building like a house
n02791270: barbershop | shop, indoor scene
n02795169: barrel, cask | container
n02802426: basketball | ball, sport | ball like a soccer ball
n02808440: bathtub, bathing tub | bath, bathroom, indoor scene
n02814533: beach wagon, station wagon, estate car | car, automobile, motor vehicle, vehicle
n02814860: beacon, lighthouse | tower, building, structure | tower like a minaret
n02815834: beaker | laboratory glass, glass, container
n02823428: beer bottle | bottle, drink, container
n02837789: bikini, two-piece swimsuit | swimsuit, swimwear, clothes, clothing
n02841315: binoculars, field glasses | optical instrument, instrument
n02843684: birdhouse | little house, wooden box, structure | home of a small bird
n02883205: bow tie | necktie, clothes, clothing
n02892201: brass plaque, memorial tablet, plaque | sign, writing
n02906734: broom | cleaning tool, tool
n02909870: bucket, pail | container
n02917067: bullet train, high-speed train | train, railway, vehicle
n02927161: butcher shop, meat market | shop, meat, indoor scene
n02948072: candle, wax light | light
n02950826: cannon | gun, weapon
n02963159: cardigan | sweater, knitwear, long sleeve, longsleeve, clothes, clothing
n02977058: cash machine, cash dispenser, automated teller machine, ATM | machine
n02988304: CD player | music player, electronic device, machine
n02999410: chain | metal object
n03014705: chest | wooden box, furniture, container
n03026506: Christmas stocking | stocking, Christmas decoration, decoration
n03042490: cliff dwelling | ruin, rock, building, structure
n03085013: computer keyboard, keyboard, keypad | computer, electronic device | part of a laptop
n03089624: candy store, confectionery | shop, sweets, indoor scene
n03100240: convertible | car, automobile, motor vehicle, vehicle
n03126707: crane | lifting machine, machine, structure
n03160309: dam, dike | structure, water
n03179701: desk | table, furniture
n03201208: dining table | table, furniture, dining room, indoor scene
n03250847: drumstick | stick of a drum, music
n03255030: dumbbell | weight, sport
n03355925: flagpole, flagstaff | pole, flag
n03388043: fountain | water, structure
n03393912: freight car | railway wagon, train, railway, vehicle
n03400231: frying pan, skillet | pan, cookware, kitchenware
n03404251: fur coat | coat, outerwear, outwear, clothes, clothing
n03424325: gasmask, respirator | mask
n03444034: go-kart | race car, small car, motor vehicle, vehicle
n03447447: gondola | boat, watercraft, vehicle | watercraft like a ship
n03544143: hourglass | timer, glass
n03584254: iPod | music player, electronic device | device like a phone
n03599486: rickshaw, jinrikisha | cart, vehicle
n03617480: kimono | robe, Japanese clothing, clothes, clothing | robe like a dress
n03637318: lampshade, lamp shade | lamp, light
n03649909: lawn mower, mower | garden machine, machine
n03662601: lifeboat | boat, watercraft, vehicle | watercraft like a ship, boat of a ship
n03670208: limousine, limo | car, automobile, motor vehicle, vehicle
n03706229: magnetic compass, compass | instrument
n03733131: maypole | pole, festival
n03763968: military uniform | uniform, soldier, clothes, clothing
n03770439: miniskirt | skirt, clothes, clothing
n03796401: moving van | truck, lorry, motor vehicle, vehicle
n03804744: nail | metal object
n03814639: neck brace | medical object
n03837869: obelisk | column, monument, structure | monument like a minaret
n03838899: oboe | wind instrument, musical instrument, music
n03854065: pipe organ, organ | musical instrument, music, church interior, indoor scene | instrument like a piano
n03891332: parking meter | machine, street scene
n03902125: pay-phone, pay telephone | telephone, phone, machine
n03930313: picket fence, paling | fence, structure
n03937543: pill bottle | bottle, medicine, container
n03970156: plunger, plumber's helper | tool
n03976657: pole | stick
n03977966: police van, police wagon | van, police car, motor vehicle, vehicle | vehicle like a truck
n03980874: poncho | cloak, outerwear, outwear, clothes, clothing
n03983396: pop bottle, soda bottle | bottle, drink, container
n03992509: potter's wheel | pottery, machine
n04008634: missile, projectile | rocket, weapon | flying thing like an airplane
n04023962: punching bag | sport
n04067472: fishing reel, reel | fishing tool
n04070727: refrigerator, icebox | fridge, kitchen machine, machine
n04074963: remote control, remote | electronic device | device like a phone
n04099969: rocking chair, rocker | chair, furniture
n04118538: rugby ball | ball, sport | ball like a soccer ball
n04133789: sandal | shoe, shoes, footwear, clothes, clothing
n04146614: school bus | bus, motor vehicle, vehicle
n04149813: scoreboard | board, sport, sign
n04179913: sewing machine | machine
n04251144: snorkel | diving mask, mask, sport
n04254777: sock | socks, footwear, clothes, clothing
n04259630: sombrero | hat, Mexican hat, clothes, clothing
n04265275: space heater, heater | machine
n04275548: spider web, cobweb | web
n04285008: sports car | car, automobile, motor vehicle, vehicle
n04311004: steel arch bridge | bridge, structure
n04328186: stopwatch, stop watch | watch, timer, instrument
n04356056: sunglasses, dark glasses | glasses
n04366367: suspension bridge | bridge, structure
n04371430: swimming trunks, bathing trunks | shorts, swimwear, clothes, clothing
n04376876: syringe | medical instrument, instrument
n04398044: teapot | pot, kitchenware, container
n04399382: teddy bear, teddy | stuffed toy, toy
n04417672: thatched roof, thatch | roof, house, building, structure
n04456115: torch | flame, light
n04465501: tractor | farm machine, motor vehicle, vehicle | vehicle like a truck
n04486054: triumphal arch | arch, monument, building, structure
n04487081: trolleybus, trolley coach | bus, motor vehicle, vehicle
n04501370: turnstile | gate, machine
n04507155: umbrella | parasol
n04532106: vestment | robe, priest, clothes, clothing
n04532670: viaduct | bridge, structure
n04540053: volleyball | ball, sport | ball like a soccer ball
n04560804: water jug | jug, pitcher, ewer, container
n04562935: water tower | tower, structure
n04596742: wok | pan, cookware, kitchenware
n04597913: wooden spoon | spoon, kitchenware, tool
n06596364: comic book | book, magazine, writing, drawing
n07579787: plate of food, plate | dish, meal, food
n07583066: guacamole | dip, dish, food
n07614500: ice cream | dessert, sweets, food
n07615774: ice lolly, lollipop, popsicle | dessert, sweets, food
n07695742: pretzel | bread, baked food, food
n07711569: mashed potato | potato, dish, food
n07715103: cauliflower | vegetable, plant, food
n07720875: bell pepper | pepper, vegetable, plant, food
n07734744: mushroom | fungus, food
n07747607: orange fruit, orange | citrus fruit, fruit, plant, food
n07749582: lemon | citrus fruit, fruit, plant, food
n07753592: banana | fruit, plant, food
n07768694: pomegranate | fruit, plant, food
n07871810: meat loaf | meat, dish, meal, food
n07873807: pizza | baked food, dish, meal, food
n07875152: potpie | pie, baked food, dish, meal, food
n07920052: espresso | coffee, drink, food | drink in a cup
n09193705: alp | mountain, landscape
n09246464: cliff | rock, landscape
n09256479: coral reef | coral, underwater scene, landscape
n09332890: lakeside, lakeshore | lake, shore, water, landscape | land by a river
n09428293: seashore, coast | beach, shore, sea, water, landscape
n12267677: acorn | nut, seed, plant
"""


def _line(line):
    number, parts = line.split(": ")
    names, wider, *like = (tuple(word.strip() for word in part.split(",")) for part in parts.split("|"))
    return number, (names, wider, like[0] if like else ())


# WordNet number -> (names, wider words, comparisons)
KINDS: dict[str, tuple[tuple[str, ...], ...]] = dict(_line(line) for line in TABLE.strip().splitlines())
