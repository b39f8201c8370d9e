//! How the services call each other.

use crate::load::shop::When::{After, During};
use crate::load::shop::operations::front::{
    ACCOUNTS_LOGIN, ACCOUNTS_SELECT, ACCOUNTS_SESSION, ACCOUNTS_UPDATE, ASK_CART, ASK_CATALOG,
    ASK_CHECKOUT, ASK_RECOMMENDATION, ASK_SEARCH, GATEWAY_ADD, GATEWAY_CART, GATEWAY_CHECKOUT,
    GATEWAY_LOGIN, GATEWAY_PRODUCT, GATEWAY_SEARCH, STOREFRONT_PAGE, TO_ACCOUNTS, TO_STOREFRONT,
};
use crate::load::shop::operations::goods::{
    CATALOG_CACHE, CATALOG_GET, CATALOG_SELECT, INVENTORY_CONSUME, INVENTORY_RESERVE,
    INVENTORY_UPDATE, RECOMMENDATION_LIST, RECOMMENDATION_MODEL, RECONCILE_ASK_CATALOG,
    RECONCILE_RUN, SEARCH_INDEX, SEARCH_QUERY, SEARCH_RANK,
};
use crate::load::shop::operations::orders::{
    CART_GET, CART_READ, CART_WRITE, CHECKOUT_ASK_CART, CHECKOUT_ASK_CATALOG, CHECKOUT_ASK_PAYMENT,
    CHECKOUT_ASK_SHIPPING, CHECKOUT_INSERT, CHECKOUT_PLACE, CHECKOUT_PREPARE, CHECKOUT_PUBLISH,
    CHECKOUT_RESERVE, NOTIFICATION_CONSUME, NOTIFICATION_MAIL, PAYMENT_BANK, PAYMENT_CHARGE,
    PAYMENT_INSERT, SHIPPING_COMPUTE, SHIPPING_QUOTE,
};
use crate::load::shop::{Flow, Operation, Step};

/// All that happens in the shop; the percentages sum to 100.
pub const FLOWS: &[Flow] = &[
    Flow { percent: 34, millis: 60, root: VIEW_PRODUCT },
    Flow { percent: 20, millis: 110, root: SEARCH },
    Flow { percent: 17, millis: 35, root: ADD_TO_CART },
    Flow { percent: 8, millis: 420, root: CHECKOUT },
    Flow { percent: 11, millis: 90, root: LOGIN },
    Flow { percent: 7, millis: 25, root: VIEW_CART },
    Flow { percent: 3, millis: 900, root: RECONCILE },
];

/// A step that always runs, once, from one thousandth of its parent's time to another.
const fn step(
    operation: &'static Operation,
    from: u64,
    to: u64,
    children: &'static [Step],
) -> Step {
    Step { operation, when: During(from, to), times: (1, 1), percent: 100, children }
}

/// The server's half of a call, within the client's.
const fn served(operation: &'static Operation, children: &'static [Step]) -> Step {
    step(operation, 20, 980, children)
}

const GET_PRODUCT: Step = served(
    &CATALOG_GET,
    &[
        step(&CATALOG_CACHE, 50, 300, &[]),
        Step { percent: 35, ..step(&CATALOG_SELECT, 320, 950, &[]) },
    ],
);

const VIEW_PRODUCT: Step = step(
    &GATEWAY_PRODUCT,
    0,
    1000,
    &[step(
        &TO_STOREFRONT,
        30,
        980,
        &[served(
            &STOREFRONT_PAGE,
            &[
                step(&ASK_CATALOG, 50, 400, &[GET_PRODUCT]),
                step(
                    &ASK_RECOMMENDATION,
                    100,
                    900,
                    &[served(
                        &RECOMMENDATION_LIST,
                        &[Step { times: (1, 4), ..step(&RECOMMENDATION_MODEL, 100, 950, &[]) }],
                    )],
                ),
            ],
        )],
    )],
);

const SEARCH: Step = step(
    &GATEWAY_SEARCH,
    0,
    1000,
    &[step(
        &TO_STOREFRONT,
        30,
        980,
        &[served(
            &STOREFRONT_PAGE,
            &[
                step(
                    &ASK_SEARCH,
                    40,
                    600,
                    &[served(
                        &SEARCH_QUERY,
                        &[
                            step(&SEARCH_INDEX, 50, 700, &[]),
                            Step { percent: 60, ..step(&SEARCH_RANK, 710, 980, &[]) },
                        ],
                    )],
                ),
                Step { times: (1, 2), ..step(&ASK_CATALOG, 620, 950, &[GET_PRODUCT]) },
            ],
        )],
    )],
);

const ADD_TO_CART: Step = step(
    &GATEWAY_ADD,
    0,
    1000,
    &[step(
        &TO_STOREFRONT,
        30,
        980,
        &[served(
            &STOREFRONT_PAGE,
            &[
                step(&ASK_CATALOG, 40, 400, &[GET_PRODUCT]),
                step(
                    &ASK_CART,
                    420,
                    950,
                    &[served(
                        &CART_GET,
                        &[
                            step(&CART_READ, 50, 400, &[]),
                            Step { times: (1, 2), ..step(&CART_WRITE, 410, 950, &[]) },
                        ],
                    )],
                ),
            ],
        )],
    )],
);

const VIEW_CART: Step = step(
    &GATEWAY_CART,
    0,
    1000,
    &[step(
        &TO_STOREFRONT,
        30,
        980,
        &[served(
            &STOREFRONT_PAGE,
            &[step(&ASK_CART, 50, 900, &[served(&CART_GET, &[step(&CART_READ, 100, 900, &[])])])],
        )],
    )],
);

const LOGIN: Step = step(
    &GATEWAY_LOGIN,
    0,
    1000,
    &[step(
        &TO_ACCOUNTS,
        30,
        980,
        &[served(
            &ACCOUNTS_LOGIN,
            &[
                step(&ACCOUNTS_SELECT, 30, 200, &[]),
                step(&ACCOUNTS_UPDATE, 820, 900, &[]),
                step(&ACCOUNTS_SESSION, 905, 980, &[]),
            ],
        )],
    )],
);

const CHECKOUT: Step = step(
    &GATEWAY_CHECKOUT,
    0,
    1000,
    &[step(
        &TO_STOREFRONT,
        10,
        990,
        &[served(
            &STOREFRONT_PAGE,
            &[step(&ASK_CHECKOUT, 20, 980, &[served(&CHECKOUT_PLACE, PLACE_ORDER)])],
        )],
    )],
);

const PLACE_ORDER: &[Step] = &[
    step(
        &CHECKOUT_PREPARE,
        10,
        400,
        &[
            step(
                &CHECKOUT_ASK_CART,
                20,
                250,
                &[served(&CART_GET, &[step(&CART_READ, 100, 900, &[])])],
            ),
            Step { times: (1, 4), ..step(&CHECKOUT_ASK_CATALOG, 260, 700, &[GET_PRODUCT]) },
            step(
                &CHECKOUT_ASK_SHIPPING,
                710,
                980,
                &[served(&SHIPPING_QUOTE, &[step(&SHIPPING_COMPUTE, 50, 950, &[])])],
            ),
        ],
    ),
    step(
        &CHECKOUT_ASK_PAYMENT,
        410,
        780,
        &[served(
            &PAYMENT_CHARGE,
            &[step(&PAYMENT_INSERT, 20, 150, &[]), step(&PAYMENT_BANK, 160, 970, &[])],
        )],
    ),
    Step {
        times: (1, 3),
        ..step(
            &CHECKOUT_RESERVE,
            790,
            900,
            &[served(&INVENTORY_RESERVE, &[step(&INVENTORY_UPDATE, 50, 950, &[])])],
        )
    },
    step(&CHECKOUT_INSERT, 905, 950, &[]),
    step(
        &CHECKOUT_PUBLISH,
        955,
        990,
        &[
            Step {
                when: After { delay_millis: 20, millis: 240 },
                ..step(&NOTIFICATION_CONSUME, 0, 0, &[step(&NOTIFICATION_MAIL, 50, 950, &[])])
            },
            Step {
                when: After { delay_millis: 8, millis: 15 },
                ..step(&INVENTORY_CONSUME, 0, 0, &[step(&INVENTORY_UPDATE, 50, 950, &[])])
            },
        ],
    ),
];

const RECONCILE: Step = step(
    &RECONCILE_RUN,
    0,
    1000,
    &[
        Step { times: (2, 6), ..step(&INVENTORY_UPDATE, 10, 500, &[]) },
        Step { times: (1, 3), ..step(&RECONCILE_ASK_CATALOG, 510, 980, &[GET_PRODUCT]) },
    ],
);
