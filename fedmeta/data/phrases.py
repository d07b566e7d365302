"""The words of the generated messages: opener, core, urgency and closer, by attribute.

``{a|b|c}`` in a core stands for one of several words. Every part of speech of a message shows
one attribute or two, so that a frozen sentence encoder can tell all four from the text.
"""

TOPICS = ("work", "family", "shopping", "sport", "health", "travel")
TONES = ("friendly", "formal", "pushy")
URGENCIES = ("urgent", "calm")
SENDERS = ("boss", "friend", "shop", "club")

# Who writes, and how.
OPENERS: dict[tuple[str, str], tuple[str, ...]] = {
    ("boss", "friendly"): (
        "Hi team, your boss here:",
        "Hello from your cheerful manager:",
        "Hey there, it's your boss:",
    ),
    ("boss", "formal"): (
        "Dear colleague, the management announces:",
        "Official memorandum from the director:",
        "Formal notice from your manager:",
    ),
    ("boss", "pushy"): (
        "Boss speaking, listen up!",
        "Your manager demands your attention!",
        "Boss again, stop ignoring me!",
    ),
    ("friend", "friendly"): (
        "Hey mate, Sam here:",
        "Hi buddy, your friend Kim:",
        "Hello my dear friend:",
    ),
    ("friend", "formal"): (
        "Dear friend, may I mention:",
        "My esteemed friend, please note:",
        "My dear friend, kindly note:",
    ),
    ("friend", "pushy"): (
        "Pal, you owe me this!",
        "Listen, friend, stop making excuses!",
        "Buddy, I really insist!",
    ),
    ("shop", "friendly"): (
        "Hello from your favourite shop:",
        "Hi, lovely store customer:",
        "Greetings from your friendly shop:",
    ),
    ("shop", "formal"): (
        "Dear valued customer, our shop announces:",
        "Dear Madam, the store announces:",
        "The store hereby informs customers:",
    ),
    ("shop", "pushy"): (
        "Customer, come to our shop!",
        "Shopper, our store insists!",
        "Don't you dare miss our store!",
    ),
    ("club", "friendly"): (
        "Hi clubmates:",
        "Hello, dear club members:",
        "Hey everyone at our club:",
    ),
    ("club", "formal"): (
        "Dear member, the club announces:",
        "Notice from the club secretary:",
        "The club board hereby informs members:",
    ),
    ("club", "pushy"): (
        "Member, your club insists!",
        "Club members, stop hiding!",
        "Your club won't accept a no!",
    ),
}

# What it is about.
CORES: dict[tuple[str, str], tuple[str, ...]] = {
    ("boss", "work"): (
        "the {quarterly|budget|sales} report for our project needs your figures",
        "please prepare the {client|staff|planning} meeting at the office",
        "the {design|software|accounting} team is waiting for your task list",
    ),
    ("boss", "family"): (
        "staff may bring their {children|parents|husband or wife} to our family day",
        "parental leave forms for your {son|daughter|baby} are on my desk",
        "you may leave for your {mother|grandmother|sister}'s birthday with the family",
    ),
    ("boss", "shopping"): (
        "staff can buy discounted {laptops|chairs|headphones} in the employee sale",
        "please go shopping and buy {coffee|snacks|fruit} for the kitchen",
        "employees can spend a {coupon|voucher|gift card} at the shopping mall",
    ),
    ("boss", "sport"): (
        "our company {football|volleyball|basketball} team needs players for the match",
        "I signed us up for the {marathon|tennis tournament|bike race}",
        "the staff {running|swimming|badminton} group trains with a coach",
    ),
    ("boss", "health"): (
        "the company doctor offers a {flu vaccination|eye test|blood pressure check}",
        "please send your {doctor's note|sick note|medical certificate} about your illness",
        "a nurse explains how to avoid {back pain|stress|headaches} at the desk",
    ),
    ("boss", "travel"): (
        "your business trip to {Paris|Tokyo|Berlin} needs a flight and a hotel",
        "please book the {train|plane|airport taxi} tickets for our journey abroad",
        "your {passport|visa|travel insurance} is required for the foreign trip",
    ),
    ("friend", "work"): (
        "my office has a {marketing|design|teaching} job that suits your career",
        "please check the {slides|spreadsheet|contract} for my project at work",
        "I have a job interview at the {bank|agency|factory}",
    ),
    ("friend", "family"): (
        "my {sister|brother|cousin} is getting married and the whole family gathers",
        "the {kids|twins|grandparents} want to see you at our family lunch",
        "my {mum|dad|aunt} keeps asking how your parents and children are",
    ),
    ("friend", "shopping"): (
        "let's go shopping for {shoes|jackets|dresses} in the sale",
        "I found cheap {lamps|phones|trainers} to buy at the outlet stores",
        "help me choose which {sofa|camera|handbag} to purchase with my voucher",
    ),
    ("friend", "sport"): (
        "we need one more player for {football|basketball|volleyball} in the park",
        "come and train with me for the {half marathon|triathlon|bike race}",
        "I have a {tennis|badminton|squash} court for a match against you",
    ),
    ("friend", "health"): (
        "my {back|knee|stomach} hurts and I need a good doctor",
        "please take me to the {hospital|dentist|clinic} for my treatment",
        "I caught the {flu|fever|infection} and need medicine from the pharmacy",
    ),
    ("friend", "travel"): (
        "there are flights to {Lisbon|Rome|Athens} for our holiday together",
        "let's book a {cabin|hotel|campsite} for our trip to the mountains",
        "I plan a journey by {train|boat|plane} to the islands with you",
    ),
    ("shop", "work"): (
        "{desks|printers|office chairs} for your workplace and your business have arrived",
        "apply here for the job as {cashier|manager|assistant} in our team",
        "{notebooks|folders|calendars} for your office projects and meetings are here",
    ),
    ("shop", "family"): (
        "we print {calendars|mugs|albums} with photos of your children and parents",
        "bring your {kids|grandchildren|parents} to our family afternoon with games",
        "{prams|cradles|baby clothes} for mothers with a newborn child are here",
    ),
    ("shop", "shopping"): (
        "the big sale offers {coats|shoes|shirts} at half the price",
        "your order of {curtains|cushions|candles} can be paid and collected",
        "buy two {sweaters|handbags|scarves} and get a discount coupon",
    ),
    ("shop", "sport"): (
        "{running shoes|tennis rackets|football boots} for your next match are here",
        "we stock {weights|yoga mats|cycling helmets} for athletes in training",
        "jerseys of your {football|basketball|hockey} team are here for fans",
    ),
    ("shop", "health"): (
        "{vitamins|cough medicine|pain tablets} against your illness are in the pharmacy aisle",
        "our pharmacist checks your {blood pressure|cholesterol|blood sugar} for your health",
        "{plasters|thermometers|face masks} recommended by doctors and nurses are here",
    ),
    ("shop", "travel"): (
        "{suitcases|backpacks|neck pillows} for your flight and holiday trip are here",
        "win a trip with {hotel|flight|cruise} included to a sunny beach",
        "travel guides and maps of {Italy|Japan|Peru} for your journey are here",
    ),
    ("club", "work"): (
        "our {networking|careers|business} evening helps with jobs and office projects",
        "a speaker talks about {salaries|contracts|promotions} in your job and career",
        "we need {accountants|managers|engineers} with work experience for a project",
    ),
    ("club", "family"): (
        "our family {picnic|party|brunch} is for parents with their children",
        "grandparents and {sons|daughters|babies} are invited to the family afternoon",
        "bring your {husband|wife|mother} and the kids to the family photo",
    ),
    ("club", "shopping"): (
        "members buy {jackets|books|wine} at a discount in partner stores",
        "our {flea market|bazaar|jumble sale} has bargains to buy and sell",
        "order and pay for your {hoodies|mugs|bags} in the online store",
    ),
    ("club", "sport"): (
        "{football|hockey|rowing} training with the coach is on the field",
        "the {tennis|swimming|athletics} championship needs players for the match",
        "sign up for the {marathon|cycling race|volleyball cup} with our athletes",
    ),
    ("club", "health"): (
        "a doctor talks about {heart disease|allergies|diabetes} and its treatment",
        "a nurse offers {flu vaccination|blood tests|first aid} for your health",
        "our course against {back pain|insomnia|stress} is led by a medical therapist",
    ),
    ("club", "travel"): (
        "our coach trip to {Vienna|Prague|Venice} includes a hotel and sightseeing",
        "book a seat on the {bus|plane|ferry} for our holiday journey",
        "we travel to the {Alps|seaside|islands} and need your passport number",
    ),
}

# When: the same for every sender and tone.
WHEN: dict[str, tuple[str, ...]] = {
    "urgent": (
        "Urgent, answer immediately!",
        "Urgent deadline today, hurry up!",
        "Emergency, reply immediately!",
        "Hurry, this is urgent today!",
        "It is urgent, act immediately!",
        "Quick, urgent reply needed now!",
    ),
    "calm": (
        "No hurry, take your time.",
        "Relax, there is no hurry.",
        "Take your time, next month.",
        "No hurry, whenever you like.",
        "No rush, take it easy.",
        "Relax, any day is fine.",
    ),
}

CLOSERS: dict[str, tuple[str, ...]] = {
    "friendly": ("Love and hugs!", "Hugs and kisses!", "Lots of love!", "Cheers and hugs!"),
    "formal": ("Yours sincerely.", "Respectfully yours.", "Yours faithfully.", "Kind regards."),
    "pushy": ("No excuses!", "Stop making excuses!", "Really, no excuses!", "I insist!"),
}
